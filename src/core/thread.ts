import type { ConversationId } from "./conversations.ts";
import { hasPrefix, type Id, type ResponseId, type ThreadId } from "./ids.ts";
import { consentLink } from "./consent-asking.ts";
import type { Item } from "./items.ts";
import type { AuditEntry } from "./audit.ts";
import type { World } from "./ports.ts";
import type { HeaderValues } from "./connection.ts";
import type { Response, StoredResponse, Tool } from "./request.ts";
import { itemAad, type ItemRow, toolSecretsAad } from "./storage.ts";

/** What this turn goes on from: a response and all that was said up to its end, or a conversation. */
export type Chain = {
  /** Null: a conversation in which no response is yet. */
  stored: StoredResponse | null;
  items: Item[];
  /** Those of the items that the response was asked for, and answered. */
  ownInput: Item[];
  ownOutput: Item[];
  threadId: ThreadId;
  /** Where it was read up to, and where new items go. */
  end: number;
  /** The conversation that it is, or that its response stands last in. */
  conversation: ConversationId | null;
};

export async function loadChain(
  world: World,
  stored: StoredResponse,
  conversation: ConversationId | null,
): Promise<Chain> {
  const { response, threadId, end } = stored;
  return chainOf(world, { project: response.project, threadId, end, stored, conversation });
}

/** `stored`: the last response in the thread up to `end`. */
export async function chainOf(
  world: World,
  place: Pick<Chain, "stored" | "threadId" | "end" | "conversation"> & { project: string },
): Promise<Chain> {
  const { project, threadId, end, stored, conversation } = place;
  const rows = await world.store.responses.items(project, threadId, 0, end);
  const placed = await Promise.all(
    rows.map(async (row) => ({
      position: row.position,
      item: await openItem(world, project, threadId, row),
    })),
  );
  // By position, not by index: items of conversations can be deleted.
  const between = (from: number, to: number) =>
    placed.flatMap(({ position, item }) => (position >= from && position < to ? [item] : []));
  return {
    stored,
    items: placed.map(({ item }) => item),
    ownInput: stored ? between(stored.inputFrom, stored.outputFrom) : [],
    ownOutput: stored ? between(stored.outputFrom, stored.end) : [],
    threadId,
    end,
    conversation,
  };
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

/** A response and its output, as far as it is known. */
export type Made = { response: Response; output: Item[] };

export async function loadMade(world: World, stored: StoredResponse): Promise<Made> {
  return { response: stored.response, output: await loadItems(world, stored, stored.outputFrom, stored.end) };
}

export async function openItem(
  world: World,
  project: string,
  threadId: ThreadId,
  row: ItemRow,
): Promise<Item> {
  const plain = await world.sealer.open(row.sealed, itemAad(project, threadId, row.position));
  // Written by `sealItems` below: what opens under its own place is an item.
  return withLinks(world, JSON.parse(plain) as Item);
}

/** The links of a consent item, made when it is read (DESIGN 6). */
export async function withLinks(world: World, item: Item): Promise<Item> {
  if (item.kind === "oauth_consent_request") return { ...item, link: await consentLink(world, item.id) };
  if (item.kind !== "consent_notice") return item;
  const requests = item.requests.map(async (request) => ({
    ...request,
    link: await consentLink(world, request.id),
  }));
  return { ...item, requests: await Promise.all(requests) };
}

/** As it is kept: a link is never stored. */
export function withoutLinks(item: Item): Item {
  if (item.kind === "oauth_consent_request") return { ...item, link: "" };
  if (item.kind !== "consent_notice") return item;
  return { ...item, requests: item.requests.map((request) => ({ ...request, link: "" })) };
}

/** Items as they are kept from position `from` on. */
export async function sealItems(
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

/** A turn that is over, as it is kept. */
export type Save = {
  response: Response;
  chain: Chain | null;
  input: Item[];
  output: Item[];
  audit: AuditEntry[];
  tools: Tool[];
};

/** The statuses that make a response part of its conversation. One that failed or was cancelled is kept beside it. */
export function isSaid(status: Response["status"]): boolean {
  return status === "completed" || status === "incomplete";
}

/**
 * Saves a response where it belongs: behind the one it answers if nobody else did so meanwhile, else in a thread of its
 * own with a copy of the past (two answers to one response are a fork, not a conflict). Gives it as it was kept: a fork is in
 * no conversation.
 */
export async function saveResponse(world: World, save: Save): Promise<Response> {
  const { response, chain, input, output } = save;
  const goesBehind =
    chain !== null && (isPlain(chain) || (isInConversation(chain) && isSaid(response.status)));
  if (goesBehind && (await appendResponse(world, save, { threadId: chain.threadId, from: chain.end })))
    return response;
  const past = chain?.items ?? [];
  return saveAlone(world, { ...save, response: { ...response, conversation: null }, input, output }, past);
}

/** Nobody writes into the thread of a conversation but who goes on with the conversation. */
const isPlain = ({ threadId }: Chain) => !hasPrefix("conv", threadId);
const isInConversation = ({ conversation }: Chain) => conversation !== null;

/** In a new thread, behind `past`. */
export async function saveAlone(world: World, save: Save, past: Item[]): Promise<Response> {
  const threadId = world.newId("thrd");
  const saved = await appendResponse(world, save, { threadId, from: past.length, past });
  if (!saved) throw new Error(`the new thread ${threadId} was not empty`);
  return save.response;
}

/** Whether the thread ended at `from`; with `past`, whether it was new. */
export async function appendResponse(
  world: World,
  { response, input, output, tools, audit }: Save,
  { threadId, from, past }: { threadId: ThreadId; from: number; past?: Item[] },
): Promise<boolean> {
  const { project, id } = response;
  const outputFrom = from + input.length;
  const place = {
    response,
    threadId,
    inputFrom: from,
    outputFrom,
    end: outputFrom + output.length,
    sealedToolSecrets: await sealToolSecrets(world, project, id, tools),
  };
  const said = [...(past ?? []), ...input, ...output];
  const rows = await sealItems(world, project, threadId, said, past ? 0 : from);
  return world.store.responses.append(place, rows, audit);
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
