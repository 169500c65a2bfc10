import type { Context } from "./context.ts";
import { isRefusal } from "./errors.ts";
import type { World } from "./ports.ts";
import { findServer, type Server, serverOf } from "./servers.ts";

/** Rows that were read this recently need not be read again: the fast call stays at two point reads (DESIGN 13). */
const RECENT_MS = 250;

/** What a turn under way may still do, read anew: a reader or a model can keep it going for minutes. */
export type Standing = { server: Server } | { revoked: string };

/**
 * The server as it is now, unless the caller's key, the user or the connection was taken away since `readAt`
 * (milliseconds since the epoch).
 */
export async function standingOf(
  world: World,
  context: Context,
  { server, readAt }: { server: Server; readAt: number },
): Promise<Standing> {
  if (world.clock.now() - readAt < RECENT_MS) return { server };
  const revoked = await revokedSince(world, context, readAt);
  if (revoked !== null) return { revoked };
  if (!server.record) return findAgain(world, context, server);
  const { name, id } = server.record.connection;
  const record = await world.store.connections.get(context.project.name, name);
  if (record?.connection.id !== id) return { revoked: `the connection ${name} was deleted` };
  return { server: serverOf(server.tool, record) };
}

/** Why this caller may not go on for this user. Null: it may. */
export async function revokedSince(
  world: World,
  { project, caller, user }: Context,
  readAt: number,
): Promise<string | null> {
  if (world.clock.now() - readAt < RECENT_MS) return null;
  const row = user === null ? null : await world.store.users.get(project.name, user);
  if (row?.status === "blocked") return "the user was blocked";
  // An operator's key belongs to no project; it ends with the configuration.
  if (caller.project === null) return null;
  // A token ends by itself, within the hour.
  if (caller.keyId === null) return null;
  const key = await world.store.keys.get(caller.project, caller.keyId);
  const isOver = !key || (key.expiresAt !== null && key.expiresAt <= world.clock.now());
  return isOver ? "the caller's key has ended" : null;
}

async function findAgain(world: World, context: Context, server: Server): Promise<Standing> {
  const project = await world.store.projects.get(context.project.name);
  if (!project) return { revoked: "the project was deleted" };
  try {
    return { server: await findServer(world, { ...context, project }, server.tool, "tools") };
  } catch (error) {
    if (!isRefusal(error, "invalid")) throw error;
    return { revoked: `the server ${server.label} is no longer allowed` };
  }
}
