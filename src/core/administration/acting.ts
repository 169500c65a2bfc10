import type { Context } from "../context.ts";
import { BrokerError } from "../errors.ts";
import type { World } from "../ports.ts";

/** The same request as an agent of the project's, for who wants to know what would be. Null: as it is. Throws `not_found`. */
export async function asAgent(
  { store }: Pick<World, "store">,
  context: Context,
  name: string | null,
): Promise<Context> {
  if (name === null) return context;
  const agent = await store.agents.get(context.project.name, name);
  if (!agent) throw new BrokerError("not_found", { what: "agent", name });
  return { ...context, agent: name, agentIdentity: agent.identity, agentMadeAt: agent.createdAt };
}
