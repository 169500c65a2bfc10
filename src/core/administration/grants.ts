import type { Context } from "../context.ts";
import type { Disconnect, Told } from "../disconnect.ts";
import { BrokerError } from "../errors.ts";
import type { Grant, GrantKey } from "../grants.ts";
import { hasPrefix } from "../ids.ts";
import type { World } from "../ports.ts";
import type { Listed, Page } from "../storage.ts";
import { getConnection } from "./connections.ts";
import { userIdIn } from "./users.ts";

/** Whose accounts a connection has, revoked ones included; in order of id. Throws `not_found` for the connection. */
export async function listGrants(
  world: World,
  context: Context,
  connection: string,
  page: Page,
): Promise<Listed<Grant>> {
  const { id: connectionId } = await getConnection(world, context, connection);
  return world.store.grants.list(context.project.name, { connectionId }, page);
}

/**
 * Takes one grant back, by its id, its user's id, or a bare name, which means `app:`. Throws `not_found` for what is unknown
 * or was taken back before.
 */
export async function revokeGrant(
  { world, disconnect }: { world: World; disconnect: Disconnect },
  context: Context,
  { connection, grant: name }: { connection: string; grant: string },
): Promise<{ grant: Grant; upstream: Told }> {
  const { id: connectionId } = await getConnection(world, context, connection);
  const project = context.project.name;
  const byId = hasPrefix("grant", name) ? await world.store.grants.find(project, name) : null;
  const key: GrantKey =
    byId?.connectionId === connectionId
      ? { project, connectionId, user: byId.user }
      : { project, connectionId, user: userIdIn(name) };
  const grant = await world.store.grants.get(key);
  const upstream = grant && (await disconnect.revoke(context, key));
  if (!grant || upstream === null) throw new BrokerError("not_found", { what: "grant", name });
  return { grant, upstream };
}
