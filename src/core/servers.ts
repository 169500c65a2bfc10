import type { Approvers, Connection, ConnectionRecord } from "./connection.ts";
import type { Context } from "./context.ts";
import { invalid } from "./errors.ts";
import type { ApprovalRule, ToolFilter } from "./policy.ts";
import type { World } from "./ports.ts";
import type { McpTool } from "./request.ts";
import { DEFAULT_TIMEOUT_MS, placeOf } from "./connection.ts";

/** What a connection's owner decided about its tools; a request can add to it and never take away. */
export type ServerPolicy = {
  requireApproval: ApprovalRule | null;
  allowedTools: ToolFilter | null;
  approvers: Approvers;
  trustAnnotations: boolean;
};

/** An MCP server of a request, found. */
export type Server = {
  label: string;
  tool: McpTool;
  /** Null: a `server_url` of the request's own, with the request's own credentials. */
  record: ConnectionRecord | null;
  url: string;
  timeoutMs: number;
  /** The connection's; for a `server_url` those of every connection to the same place. All of them hold. */
  policies: ServerPolicy[];
  /** Whose tool pins count: the connection, or every connection to the same place. */
  pinnedBy: Connection[];
};

/**
 * Finds the server that a request's tool means (DESIGN 8): `project_connection_id`, else the label as a connection's
 * name, else `server_url` where the project allows it. A connection's target beats `server_url`.
 *
 * Throws `invalid` for a name that is unknown here; one of another project is unknown, too.
 */
export async function findServer(
  world: World,
  context: Context,
  tool: McpTool,
  param: string,
): Promise<Server> {
  const named = tool.connection === null ? null : connectionNameIn(tool.connection, context.project.name);
  if (tool.connection !== null) {
    const record = named === null ? null : await world.store.connections.get(context.project.name, named);
    if (record) return serverOf(tool, record);
    throw invalid({
      param: `${param}.project_connection_id`,
      message: `this project has no connection '${tool.connection}'`,
    });
  }
  const record = await world.store.connections.get(context.project.name, tool.label);
  if (record) return serverOf(tool, record);
  if (tool.serverUrl === null) {
    const message = `this project has no connection '${tool.label}', and the tool gives no server_url`;
    throw invalid({ param: `${param}.server_label`, message });
  }
  return findByUrl(world, context, { ...tool, serverUrl: tool.serverUrl }, `${param}.server_url`);
}

export function serverOf(tool: McpTool, record: ConnectionRecord): Server {
  const { connection } = record;
  return {
    label: tool.label,
    tool,
    record,
    url: connection.target,
    timeoutMs: connection.timeoutMs,
    policies: [policyOf(connection)],
    pinnedBy: [connection],
  };
}

/** A server by its URL, where the project allows that. Connections to the same place lend their policy and pins. */
export async function findByUrl(
  world: World,
  context: Context,
  tool: McpTool & { serverUrl: string },
  param: string,
): Promise<Server> {
  const setting = context.project.settings.adhocServers ?? (world.local ? "allow" : "deny");
  if (!URL.canParse(tool.serverUrl)) throw invalid({ param, message: "must be an absolute URL" });
  const { hostname, host, hash } = new URL(tool.serverUrl);
  if (hash !== "") throw invalid({ param, message: "must not have a fragment" });
  const allowed =
    setting === "allow" || (Array.isArray(setting) && (setting.includes(hostname) || setting.includes(host)));
  if (!allowed) {
    const message =
      `this project allows no server_url to '${host}' without a connection: ` +
      "make a connection for it, or add the host to the project setting adhocServers";
    throw invalid({ param, message });
  }
  const same = await connectionsAt(world, context, placeOf(tool.serverUrl));
  return {
    label: tool.label,
    tool,
    record: null,
    url: tool.serverUrl,
    timeoutMs: DEFAULT_TIMEOUT_MS,
    policies: same.map(policyOf),
    pinnedBy: same,
  };
}

async function connectionsAt(world: World, context: Context, place: string): Promise<Connection[]> {
  const found: Connection[] = [];
  for (let after: string | null = null; ;) {
    const page = await world.store.connections.list(context.project.name, { place }, { after, limit: PAGE });
    found.push(...page.rows.map(({ connection }) => connection));
    after = found.at(-1)?.name ?? null;
    if (!page.more) return found;
  }
}

const PAGE = 100;

function policyOf(connection: Connection): ServerPolicy {
  const { requireApproval, allowedTools, approvers, trustAnnotations } = connection;
  return { requireApproval, allowedTools, approvers, trustAnnotations };
}

/** The name in `github` or `/subscriptions/…/projects/{project}/connections/github`. Null: of another project, or none. */
export function connectionNameIn(reference: string, project: string): string | null {
  if (!reference.startsWith("/")) return reference;
  const match =
    /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.(?:CognitiveServices\/accounts|MachineLearningServices\/workspaces)\/[^/]+(?:\/projects\/([^/]+))?\/connections\/([^/]+)$/i.exec(
      reference,
    );
  if (!match?.[2]) return null;
  return match[1] === undefined || match[1] === project ? match[2] : null;
}

/** A connection asked for by nothing but its name. */
export function toolFor(name: string): McpTool {
  return {
    kind: "mcp",
    label: name,
    connection: name,
    serverUrl: null,
    description: null,
    requireApproval: "never",
    allowedTools: null,
    authorization: null,
    headers: {},
  };
}
