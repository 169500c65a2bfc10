import type { Agent, AgentIdentity, AgentVersion } from "./agents.ts";
import type { Context } from "./context.ts";
import { type Fault, invalid } from "./errors.ts";
import { headerFaults } from "./header-rules.ts";
import type { Json, JsonObject } from "./json.ts";
import type { World } from "./ports.ts";
import type { McpTool, Sampling, Tool, ToolChoice, TurnRequest } from "./request.ts";
import { type Chain, recoverTools } from "./thread.ts";

/** What an agent's definition says, read by the wire (`PromptAgentDefinition`). */
export type AgentDefinition = {
  model: string;
  instructions: string | null;
  tools: Tool[];
  toolChoice: ToolChoice | null;
  sampling: Sampling;
  structuredInputs: Record<string, { default: Json | null; required: boolean }>;
};

export type ReadDefinition = (definition: JsonObject) => AgentDefinition;

/** The parts of a turn that a request may leave out: its own, else the agent's, else those of the response it answers. */
export type Settled = {
  model: string | null;
  agent: { name: string; version: number } | null;
  /** That agent's, as it is now. */
  agentIdentity: AgentIdentity | null;
  agentMadeAt: number | null;
  instructions: string | null;
  tools: Tool[];
  toolChoice: ToolChoice;
  sampling: Sampling;
};

/**
 * Fills in what was omitted (DESIGN 8): an agent named now gives its definition; otherwise the previous response gives
 * model, tools, agent, text and reasoning. Instructions are inherited from an agent only.
 *
 * Throws `invalid` for an agent that is unknown here or disabled, and for a required structured input that is missing.
 */
export async function settle(
  world: World,
  context: Context,
  { request, chain, read }: { request: TurnRequest; chain: Chain | null; read: ReadDefinition },
): Promise<Settled> {
  const previous = chain?.stored?.response ?? null;
  const named = request.agent ? await findAgent(world, context, request.agent) : null;
  const kept =
    !named && previous?.agent
      ? await requireAgent(world, context, previous.agent.name, "previous_response_id")
      : null;
  const definition = named ? fillIn(read(named.version.definition), request.structuredInputs) : null;
  const agent = named
    ? { name: named.agent.name, version: named.version.version }
    : (previous?.agent ?? null);
  const inherited = previous?.agent && !named ? previous.instructions : null;
  const stored = chain?.stored ?? null;
  const tools = request.tools ?? definition?.tools ?? (stored ? await recoverTools(world, stored) : []);
  return {
    model: request.model ?? definition?.model ?? previous?.model ?? null,
    agent,
    agentIdentity: (named?.agent ?? kept)?.identity ?? null,
    agentMadeAt: (named?.agent ?? kept)?.createdAt ?? null,
    instructions: request.instructions ?? definition?.instructions ?? inherited,
    tools,
    toolChoice: request.toolChoice ?? definition?.toolChoice ?? { kind: "auto" },
    sampling: mergeSampling(request.sampling, definition?.sampling ?? null, previous?.sampling ?? null),
  };
}

async function findAgent(
  world: World,
  context: Context,
  { name, version }: { name: string; version: string | null },
): Promise<{ agent: Agent; version: AgentVersion }> {
  const agent = await requireAgent(world, context, name, "agent_reference.name");
  if (version === null || version === String(agent.latest.version)) return { agent, version: agent.latest };
  const number = /^[1-9]\d{0,8}$/.test(version) ? Number(version) : null;
  const found =
    number === null ? null : await world.store.agents.getVersion(context.project.name, name, number);
  if (found) return { agent, version: found };
  throw invalid({
    param: "agent_reference.version",
    message: `the agent '${name}' has no version '${version}'`,
  });
}

/** An agent that may run: also one that a response goes on with must still be there and enabled. */
async function requireAgent(world: World, context: Context, name: string, param: string): Promise<Agent> {
  const agent = await world.store.agents.get(context.project.name, name);
  if (!agent) throw invalid({ param, message: `this project has no agent '${name}'` });
  if (agent.state === "disabled") throw invalid({ param, message: `the agent '${name}' is disabled` });
  return agent;
}

/** `{{name}}` in instructions, labels, URLs and header values of MCP tools (Foundry's structured inputs). */
function fillIn(definition: AgentDefinition, given: Record<string, Json>): AgentDefinition {
  const values = new Map<string, string>();
  const faults = [];
  for (const [name, input] of Object.entries(definition.structuredInputs)) {
    const value = (Object.hasOwn(given, name) ? given[name] : null) ?? input.default;
    if (value !== null) values.set(name, typeof value === "string" ? value : JSON.stringify(value));
    else if (input.required)
      faults.push({ param: `structured_inputs.${name}`, message: "is required by the agent" });
  }
  if (faults.length > 0) throw invalid(...faults);
  // One pass with a function: a value that holds `{{other}}` or `$&` stays what it is.
  const fill = (text: string) =>
    text.replace(/\{\{\s*([\w-]+)\s*\}\}/g, (whole, name: string) => values.get(name) ?? whole);
  const filled = {
    ...definition,
    instructions: definition.instructions === null ? null : fill(definition.instructions),
    tools: definition.tools.map((tool) => {
      if (tool.kind !== "mcp") return tool;
      const { label, serverUrl, authorization } = tool;
      return {
        ...tool,
        label: fill(label),
        serverUrl: serverUrl && fill(serverUrl),
        authorization: authorization && fill(authorization),
        headers: Object.fromEntries(Object.entries(tool.headers).map(([name, value]) => [name, fill(value)])),
      };
    }),
  };
  const wrong = filled.tools.flatMap((tool) => (tool.kind === "mcp" ? filledFaults(tool) : []));
  if (wrong.length > 0) throw invalid(...wrong.slice(0, MAX_FAULTS));
  return filled;
}

const MAX_FAULTS = 20;
const MAX_LABEL_CHARS = 128;

/** A value of the caller's stands where the agent's author was checked. */
function filledFaults({ label, authorization, headers }: McpTool): Fault[] {
  const sent = authorization === null ? headers : { ...headers, authorization: `Bearer ${authorization}` };
  const faults = headerFaults(sent, "structured_inputs");
  const isLabel =
    label.length > 0 && label.length <= MAX_LABEL_CHARS && !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(label);
  if (isLabel) return faults;
  return [
    ...faults,
    { param: "structured_inputs", message: "make a server_label that is empty, too long or unprintable" },
  ];
}

function mergeSampling(own: Sampling, agent: Sampling | null, previous: Sampling | null): Sampling {
  return {
    temperature: own.temperature ?? agent?.temperature ?? null,
    topP: own.topP ?? agent?.topP ?? null,
    topLogprobs: own.topLogprobs ?? agent?.topLogprobs ?? null,
    maxOutputTokens: own.maxOutputTokens ?? agent?.maxOutputTokens ?? null,
    frequencyPenalty: own.frequencyPenalty ?? agent?.frequencyPenalty ?? null,
    presencePenalty: own.presencePenalty ?? agent?.presencePenalty ?? null,
    reasoning: own.reasoning ?? agent?.reasoning ?? previous?.reasoning ?? null,
    textFormat: own.textFormat ?? agent?.textFormat ?? previous?.textFormat ?? null,
    verbosity: own.verbosity ?? agent?.verbosity ?? previous?.verbosity ?? null,
    promptCacheKey: own.promptCacheKey ?? agent?.promptCacheKey ?? null,
    serviceTier: own.serviceTier ?? agent?.serviceTier ?? null,
  };
}
