import type { UserId } from "./ids.ts";
import type { World } from "./ports.ts";
import type { Handle } from "./consents.ts";

/** Lets a user into `/me` of a project for 15 minutes. Gives the value for the browser's cookie; only its hash is kept. */
export async function startSession(world: World, project: string, user: UserId): Promise<string> {
  const session = world.crypto.randomText(SESSION_BYTES);
  const now = world.clock.now();
  const handle: Handle = {
    hash: await world.crypto.sha256(session),
    kind: "me_session",
    project,
    subject: user,
    browserHash: null,
    sealed: null,
    createdAt: now,
    expiresAt: now + SESSION_MS,
  };
  await world.store.handles.put(handle, []);
  return session;
}

/** Whose session it is. Null: none of this project's, over, or its user is blocked. */
export async function userOfSession(
  world: World,
  project: string,
  session: string | null,
): Promise<UserId | null> {
  if (session === null) return null;
  const hash = await world.crypto.sha256(session);
  const handle = await world.store.handles.get("me_session", hash, world.clock.now());
  return handle?.project === project ? userOfHandle(world, handle) : null;
}

/** The user that a handle is for, unless blocked. */
export async function userOfHandle(world: World, { project, subject }: Handle): Promise<UserId | null> {
  // The seam: the subject of a link or session is a user id, written by us.
  const user = subject as UserId;
  const known = await world.store.users.get(project, user);
  return known?.status === "blocked" ? null : user;
}

/** Ends it now. */
export async function endSession(world: World, session: string): Promise<void> {
  const hash = await world.crypto.sha256(session);
  await world.store.handles.take({ kind: "me_session", hash, browserHash: null, now: world.clock.now() });
}

const SESSION_BYTES = 32;
export const SESSION_MS = 15 * 60_000;
