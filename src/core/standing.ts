import { userOfPrincipal } from "./callers.ts";
import type { Context } from "./context.ts";
import { isRefusal } from "./errors.ts";
import type { UserId } from "./ids.ts";
import { issuerOf } from "./issuers.ts";
import type { World } from "./ports.ts";
import { findServer, type Server, serverOf } from "./servers.ts";
import { unverifiedClaims } from "./token-peek.ts";
import { textOf } from "./user-of-claims.ts";

/** Rows that were read this recently need not be read again: the fast call stays at two point reads (DESIGN 13). */
export const RECENT_MS = 250;

/** What a turn under way may still do, read anew: a reader or a model can keep it going for minutes. */
export type Standing = { server: Server } | { revoked: string };

/**
 * The server as it is now, unless the caller's key, the user, the agent or the connection was taken away since `readAt`
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
export async function revokedSince(world: World, context: Context, readAt: number): Promise<string | null> {
  const { project, caller, user } = context;
  if (world.clock.now() - readAt < RECENT_MS) return null;
  if (user !== null && (await isBlocked(world, project, user))) return "the user was blocked";
  const own = userOfPrincipal(caller.principal);
  if (own !== null && own !== user && (await isBlocked(world, project, own)))
    return "the caller's user was blocked";
  if (!(await areIssuersTrusted(world, context))) return "the token's issuer is no longer trusted";
  if (await hasAgentEnded(world, context))
    return `the agent ${context.agent} was deleted, disabled or made again`;
  // An operator's key belongs to no project; it ends with the configuration.
  if (caller.project === null) return null;
  if (caller.keyId === null) return null;
  const key = await world.store.keys.get(caller.project, caller.keyId);
  const isOver = !key || (key.expiresAt !== null && key.expiresAt <= world.clock.now());
  return isOver ? "the caller's key has ended" : null;
}

/** A token ends by itself, within the hour; its issuer can lose the project's trust before. */
async function areIssuersTrusted(world: World, { project, caller, userToken }: Context): Promise<boolean> {
  const { issuer } = caller;
  if (issuer === undefined && userToken === null) return true;
  const issuers = (await world.store.projects.get(project.name))?.settings.issuers ?? [];
  if (issuer !== undefined && issuerOf(issuers, issuer) === null) return false;
  if (userToken === null) return true;
  // By what it says itself, for another issuer may have the name by now; it was verified when it came.
  const iss = textOf(unverifiedClaims(userToken.token) ?? {}, "iss");
  return iss !== null && issuerOf(issuers, iss)?.entry.name === userToken.issuer;
}

/** One with an identity of its own: servers give rights to that very agent. */
async function hasAgentEnded(world: World, context: Context): Promise<boolean> {
  const { project, agent: name, agentIdentity, agentMadeAt } = context;
  if (name == null || agentIdentity !== "own") return false;
  const agent = await world.store.agents.get(project.name, name);
  return agent?.state !== "enabled" || agent.createdAt !== agentMadeAt;
}

async function isBlocked(world: World, { name }: Context["project"], user: UserId): Promise<boolean> {
  return (await world.store.users.get(name, user))?.status === "blocked";
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
