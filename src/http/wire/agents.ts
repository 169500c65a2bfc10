import * as z from "zod";
import type { AgentPrincipal } from "../../core/administration/agent-principal.ts";
import type { AgentDraft } from "../../core/administration/agents.ts";
import { type Agent, AGENT_IDENTITIES, type AgentIdentity, type AgentVersion } from "../../core/agents.ts";
import { BrokerError, type Fault, invalid } from "../../core/errors.ts";
import { isJsonObject, type JsonObject } from "../../core/json.ts";
import type { McpTool } from "../../core/request.ts";
import type { Listed, Page } from "../../core/storage.ts";
import { metadata, strings, wholeNumber } from "./common.ts";
import { refusal } from "./faults.ts";
import { readAgentDefinition } from "./request.ts";
import { jsonObject, readWith, type Shape } from "./shape.ts";

/** A prompt agent's definition, checked by the reader that runs it and then kept exactly as it was given. */
const definition: Shape<JsonObject> = readWith(readDefinition, {
  type: "object",
  properties: {
    kind: { const: "prompt" },
    model: { type: "string" },
    instructions: { type: ["string", "null"] },
    tools: { type: "array", items: { type: "object" } },
  },
  required: ["kind", "model"],
});

const versionFields = z.object({
  definition,
  description: z.string().max(4_096).nullish(),
  metadata: metadata.nullish(),
  draft: z.boolean().nullish(),
});

/** Ours: Foundry gives an identity of its own to what it publishes. */
const identity = z.enum(AGENT_IDENTITIES);

/** `POST …/agents/{name}/versions`. */
export const agentVersionDraft: Shape<AgentDraft> = versionFields
  .extend({
    identity: z
      .never({ error: "is the agent's, not a version's: send it to POST or PATCH …/agents/{name}" })
      .optional(),
  })
  .transform(draftOf);

/** `POST …/agents/{name}`. */
export const agentUpdate: Shape<{ draft: AgentDraft; identity: AgentIdentity | null }> = versionFields
  .extend({ identity: identity.nullish() })
  .transform((given) => ({ draft: draftOf(given), identity: given.identity ?? null }));

/** `POST …/agents`. */
export const agentDraft: Shape<{
  name: string;
  state: Agent["state"];
  identity: AgentIdentity;
  draft: AgentDraft;
}> = versionFields
  .extend({
    name: z.string(),
    state: z.enum(["enabled", "disabled"]).nullish(),
    identity: identity.nullish(),
  })
  .transform((given) => ({
    name: given.name,
    state: given.state ?? "enabled",
    identity: given.identity ?? "shared",
    draft: draftOf(given),
  }));

/** Endpoint and card are settings of Foundry's publishing; taken, so that its clients work, and not kept. */
export const agentPatch = z.object({
  identity: identity.nullish(),
  agent_endpoint: jsonObject.nullish(),
  agent_card: jsonObject.nullish(),
});

export const agentQuery = z.object({
  kind: z.string().optional(),
  limit: wholeNumber(1, 100).default(20),
  order: z.enum(["asc", "desc"]).optional(),
  after: z.string().min(1).max(300).optional(),
  before: z.never({ error: "is not supported: page with after" }).optional(),
});

/** Ours has two ids in one: `name:version` and the bare number page alike. */
export function versionPage({ limit, after }: z.infer<typeof agentQuery>): Page {
  return { limit, after: after === undefined ? null : after.slice(after.lastIndexOf(":") + 1) };
}

const versionBody = z.object({
  object: z.literal("agent.version"),
  id: z.string(),
  name: z.string(),
  version: z.string(),
  status: z.literal("active"),
  metadata: strings,
  description: z.string(),
  /** Unix seconds. */
  created_at: z.number(),
  draft: z.literal(false),
  definition: jsonObject,
});
export const agentVersionBody: Shape<z.infer<typeof versionBody>> = versionBody;

export const agentBody = z.object({
  object: z.literal("agent"),
  id: z.string(),
  name: z.string(),
  state: z.enum(["enabled", "disabled"]),
  identity,
  /** Of an agent with an identity of its own: `oid` and `client_id` of its tokens. */
  instance_identity: z.object({ principal_id: z.string(), client_id: z.string() }).optional(),
  versions: z.object({ latest: versionBody }),
  agent_endpoint: jsonObject,
});

export function agentListOf<T>(shape: z.ZodType<T>) {
  return z.object({
    object: z.literal("list"),
    data: z.array(shape),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });
}

export const deletedBody = z.object({
  object: z.enum(["agent.deleted", "agent.version.deleted"]),
  name: z.string(),
  version: z.string().optional(),
  deleted: z.literal(true),
});

export function writeAgentVersion(version: AgentVersion): z.infer<typeof versionBody> {
  return {
    object: "agent.version",
    id: `${version.agent}:${version.version}`,
    name: version.agent,
    version: String(version.version),
    status: "active",
    metadata: version.metadata,
    description: version.description ?? "",
    created_at: Math.floor(version.createdAt / 1000),
    draft: false,
    definition: version.definition,
  };
}

export function writeAgent(agent: Agent, principal: AgentPrincipal | null): z.infer<typeof agentBody> {
  const latest = writeAgentVersion(agent.latest);
  const all = { type: "FixedRatio", agent_version: latest.version, traffic_percentage: 100 };
  return {
    object: "agent",
    id: agent.name,
    name: agent.name,
    state: agent.state,
    identity: agent.identity,
    ...(principal && {
      instance_identity: { principal_id: principal.principalId, client_id: principal.clientId },
    }),
    versions: { latest },
    agent_endpoint: {
      version_selector: { version_selection_rules: [all] },
      protocol_configuration: { responses: {} },
    },
  };
}

/** Foundry's list: clients go on with `after=<last_id>` (foundry-wire H15). */
export function writeAgentList<R, T extends { id: string }>({ rows, more }: Listed<R>, write: (row: R) => T) {
  const data = rows.map(write);
  return {
    object: "list" as const,
    data,
    first_id: data.at(0)?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: more,
  };
}

function draftOf(given: z.infer<typeof versionFields>): AgentDraft {
  if (given.draft === true)
    throw new BrokerError("not_supported", { what: "A draft version", param: "draft" });
  return {
    definition: given.definition,
    description: given.description ?? null,
    metadata: given.metadata ?? {},
  };
}

function readDefinition(value: unknown): JsonObject {
  if (value === undefined) throw invalid({ param: "", message: "is required" });
  if (!isJsonObject(value)) throw invalid({ param: "", message: "must be an object" });
  const kind = value["kind"];
  if (typeof kind !== "string") throw invalid({ param: "kind", message: 'is required: "prompt"' });
  if (kind !== "prompt") {
    throw new BrokerError("not_supported", { what: `The agent kind '${kind}'`, param: "definition.kind" });
  }
  const { tools } = readAgentDefinition(value);
  const faults = tools.flatMap((tool, at) => (tool.kind === "mcp" ? secretFaults(tool, `tools[${at}]`) : []));
  if (faults.length > 0) throw refusal(faults);
  return value;
}

/** A definition is read back by everybody who may see the agent, so it holds no secrets, only places for them. */
function secretFaults({ authorization, headers }: McpTool, param: string): Fault[] {
  const message =
    "may be secret and does not belong into a definition: use a connection, or a {{structured input}}";
  const isPlace = (text: string) => /^\{\{\s*[\w.-]+\s*\}\}$/.test(text);
  const named = Object.entries(headers).filter(
    ([name, value]) => SECRET_HEADER.test(name) && !isPlace(value),
  );
  const faults = named.map(([name]) => ({ param: `${param}.headers.${name}`, message }));
  if (authorization !== null && !isPlace(authorization)) {
    faults.push({ param: `${param}.authorization`, message });
  }
  return faults;
}

const SECRET_HEADER = /^(?:authorization|cookie)$|(?:^|[-_])(?:secret|key|token)$/i;
