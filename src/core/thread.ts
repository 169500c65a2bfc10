import type { Id, ResponseId, ThreadId } from "./ids.ts";
import { consentLink } from "./consent-asking.ts";
import type { Item } from "./items.ts";
import type { AuditEntry } from "./audit.ts";
import type { World } from "./ports.ts";
import type { HeaderValues } from "./connection.ts";
import type { Response, StoredResponse, Tool } from "./request.ts";
import { itemAad, type ItemRow, toolSecretsAad } from "./storage.ts";

/** A response that this turn goes on from: its place, and all that was said up to its end. */
export type Chain = { stored: StoredResponse; items: Item[] };

export async function loadChain(world: World, stored: StoredResponse): Promise<Chain> {
  return { stored, items: await loadItems(world, stored, 0, stored.end) };
}

/** Items of a response's thread, from position `from` (inclusive) to `to` (exclusive). */
export async function loadItems(
  world: World,
  stored: StoredResponse,
  from: number,
  to: number,
): Promise<Item[]> {
  const { project } = stored.response;
  const rows = await world.store.responses.items(project, stored.threadId, from, to);
  return Promise.all(rows.map((row) => openItem(world, project, stored.threadId, row)));
}

export async function openItem(
  world: World,
  project: string,
  threadId: ThreadId,
  row: ItemRow,
): Promise<Item> {
  const plain = await world.sealer.open(row.sealed, itemAad(project, threadId, row.position));
  // Written by `seal` below: what opens under its own place is an item.
  return withLinks(world, JSON.parse(plain) as Item);
}

/** The links of a consent item, made when it is read (DESIGN 6). */
async function withLinks(world: World, item: Item): Promise<Item> {
  if (item.kind === "oauth_consent_request") return { ...item, link: await consentLink(world, item.id) };
  if (item.kind !== "consent_notice") return item;
  const requests = item.requests.map(async (request) => ({
    ...request,
    link: await consentLink(world, request.id),
  }));
  return { ...item, requests: await Promise.all(requests) };
}

/** As it is kept: a link is never stored. */
function withoutLinks(item: Item): Item {
  if (item.kind === "oauth_consent_request") return { ...item, link: "" };
  if (item.kind !== "consent_notice") return item;
  return { ...item, requests: item.requests.map((request) => ({ ...request, link: "" })) };
}

async function seal(
  world: World,
  project: string,
  threadId: ThreadId,
  items: Item[],
  from: number,
): Promise<ItemRow[]> {
  return Promise.all(
    items.map(async (item, at) => {
      const position = from + at;
      const sealed = await world.sealer.seal(
        JSON.stringify(withoutLinks(item)),
        itemAad(project, threadId, position),
      );
      return { position, id: item.id, sealed };
    }),
  );
}

/**
 * Saves a response where it belongs: behind the one it answers if nobody else did so meanwhile, else in a thread of its
 * own with a copy of the past (two answers to one response are a fork, not a conflict).
 */
export async function saveResponse(
  world: World,
  save: {
    response: Response;
    chain: Chain | null;
    input: Item[];
    output: Item[];
    audit: AuditEntry[];
    tools: Tool[];
  },
): Promise<void> {
  const { response, chain, input, output } = save;
  const { project, id } = response;
  const inputFrom = chain?.stored.end ?? 0;
  const outputFrom = inputFrom + input.length;
  const end = outputFrom + output.length;
  const sealedToolSecrets = await sealToolSecrets(world, project, id, save.tools);
  const place = { response, inputFrom, outputFrom, end, sealedToolSecrets };

  if (chain) {
    const { threadId } = chain.stored;
    const rows = await seal(world, project, threadId, [...input, ...output], inputFrom);
    if (await world.store.responses.append({ ...place, threadId }, rows, save.audit)) return;
  }
  const threadId = world.newId("thrd");
  const rows = await seal(world, project, threadId, [...(chain?.items ?? []), ...input, ...output], 0);
  const saved = await world.store.responses.append({ ...place, threadId }, rows, save.audit);
  if (!saved) throw new Error(`the new thread ${threadId} was not empty`);
}

/** Inline credentials, by label: what a follow-up that omits its tools needs again. */
type ToolSecrets = { label: string; authorization: string | null; headers: HeaderValues }[];

async function sealToolSecrets(
  world: World,
  project: string,
  id: ResponseId,
  tools: Tool[],
): Promise<Uint8Array | null> {
  const secrets: ToolSecrets = tools.flatMap((tool) => {
    if (tool.kind !== "mcp") return [];
    const { label, authorization, headers } = tool;
    return authorization === null && Object.keys(headers).length === 0
      ? []
      : [{ label, authorization, headers }];
  });
  if (secrets.length === 0) return null;
  return world.sealer.seal(JSON.stringify(secrets), toolSecretsAad(project, id));
}

/** The tools of a stored response with their inline credentials back in place. */
export async function recoverTools(
  world: World,
  { response, sealedToolSecrets }: StoredResponse,
): Promise<Tool[]> {
  if (!sealedToolSecrets) return response.tools;
  const plain = await world.sealer.open(sealedToolSecrets, toolSecretsAad(response.project, response.id));
  // Written by sealToolSecrets, opened under its own name.
  const secrets = JSON.parse(plain) as ToolSecrets;
  return response.tools.map((tool) => {
    const found = tool.kind === "mcp" && secrets.find(({ label }) => label === tool.label);
    return found ? { ...tool, authorization: found.authorization, headers: found.headers } : tool;
  });
}

/** A tool as it may be kept and echoed: without its inline credentials. */
export function withoutSecrets(tool: Tool): Tool {
  return tool.kind === "mcp" ? { ...tool, authorization: null, headers: {} } : tool;
}

/** A fresh id of the kind that an item of this kind carries. */
export function newItemId(
  world: Pick<World, "newId">,
  kind: Item["kind"],
): Id<"msg" | "fc" | "fco" | "mcpl" | "mcpr" | "mcpa" | "mcp" | "itm"> {
  switch (kind) {
    case "message":
      return world.newId("msg");
    case "function_call":
      return world.newId("fc");
    case "function_call_output":
      return world.newId("fco");
    case "mcp_list_tools":
      return world.newId("mcpl");
    case "mcp_approval_request":
      return world.newId("mcpr");
    case "mcp_approval_response":
      return world.newId("mcpa");
    case "mcp_call":
      return world.newId("mcp");
    case "oauth_consent_request":
    case "consent_notice":
    case "other":
      return world.newId("itm");
  }
}
