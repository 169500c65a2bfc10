import type { Context } from "../core/context.ts";
import { BrokerError } from "../core/errors.ts";
import type { UserId } from "../core/ids.ts";
import type { World } from "../core/ports.ts";
import type { Project } from "../core/project.ts";
import { type RequestUser, requestUser } from "../core/request-user.ts";
import { type Admitted, isUserBlocked } from "./caller.ts";

/**
 * The user of a request whose body has been read: the person whose token came, or who the header names, else who the body names,
 * where the caller may say so (`requestUser`). Remembers users when they are first seen.
 */
export type UserDesk = (
  caller: Context["caller"],
  admitted: Admitted,
  body: string | null,
) => Promise<RequestUser>;

export function createUserDesk(world: World): UserDesk {
  // Users noted by this process, so that a known one costs nothing. A project made anew has another creation time.
  const noted = new Set<string>();

  async function note(project: Project, user: UserId): Promise<void> {
    const key = `${project.name}|${project.createdAt}|${user}`;
    if (noted.has(key)) return;
    await world.store.users.note({
      project: project.name,
      id: user,
      status: "active",
      createdAt: world.clock.now(),
    });
    if (noted.size >= MAX_NOTED) noted.clear();
    noted.add(key);
  }

  return async (caller, admitted, body) => {
    const { project, active } = admitted;
    const found = requestUser(caller, { ...admitted, body }, project.settings.users);
    const { user } = found;
    if (user === null) return found;
    // Who calls and whom the header says were looked at with the caller; the body came later.
    if (!active.has(user) && (await isUserBlocked(world, project, user)))
      throw new BrokerError("user_blocked", {});
    await note(project, user);
    return found;
  };
}

const MAX_NOTED = 50_000;
