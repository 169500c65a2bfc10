import { auditEntry, type Context } from "../context.ts";
import { BrokerError } from "../errors.ts";
import type { World } from "../ports.ts";
import { type Connection, placeOf } from "../connection.ts";
import type { PinKey, ToolPin } from "../storage.ts";
import { getConnection } from "./connections.ts";

/** What the connection's tools were when first listed or last accepted, and what they were last. */
export async function listPins(world: World, context: Context, name: string): Promise<ToolPin[]> {
  return world.store.toolPins.list(pinKey(await getConnection(world, context, name)));
}

/**
 * Accepts a tool as it was seen last, or exactly as `hash` says, so that an admin accepts what was read and not what
 * came after. Throws `not_found`, `changed_meanwhile`.
 */
export async function acceptTool(
  world: World,
  context: Context,
  accept: { connection: string; tool: string; hash: string | null },
): Promise<ToolPin> {
  const { tool } = accept;
  const key = pinKey(await getConnection(world, context, accept.connection));
  const pin = await findPin(world, key, tool);
  const hash = accept.hash ?? pin.seen;
  const entry = auditEntry(world, context, "tool_accepted", {
    connection: accept.connection,
    tool,
    detail: { definitionHash: hash, before: pin.pinned },
  });
  if (!(await world.store.toolPins.accept(key, tool, hash, [entry]))) {
    throw new BrokerError("changed_meanwhile", { what: "tool", name: tool });
  }
  return { ...pin, pinned: hash };
}

async function findPin(world: World, key: PinKey, tool: string): Promise<ToolPin> {
  const pin = (await world.store.toolPins.list(key)).find((row) => row.tool === tool);
  if (!pin) throw new BrokerError("not_found", { what: "tool", name: tool });
  return pin;
}

function pinKey({ project, id, target }: Connection): PinKey {
  return { project, connectionId: id, place: placeOf(target) };
}
