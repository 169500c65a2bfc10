import { type AccessDesk, type Door, type Failure, through } from "./access.ts";
import { createCache } from "./cache.ts";
import { type Connection, placeOf } from "./connection.ts";
import { auditEntry, type Context } from "./context.ts";
import type { ListedTool } from "./items.ts";
import { createUnderWay } from "./joined.ts";
import { canonicalJson, type JsonObject } from "./json.ts";
import { isAllowed, needsApproval } from "./policy.ts";
import type { ToolDefinition, UpstreamAccess, World } from "./ports.ts";
import type { Server } from "./servers.ts";
import type { PinKey, ToolPin } from "./storage.ts";

/** A tool as we know it: what the server says, what that hashes to, and what we make of it. */
export type KnownTool = {
  definition: ToolDefinition;
  hash: string;
  /** Its definition is not the pinned one: counts as not read-only and needs approval, whatever the policy. */
  changed: boolean;
  /** The server's own hint, believed only while trusted and unchanged. */
  readOnly: boolean;
};

export type Listing = { ok: true; tools: Map<string, KnownTool> } | { ok: false; failure: Failure };

/** A listing as it was begun, `at` and after that change. */
type Kept = { listing: Listing & { ok: true }; at: number; change: number };

/** What may be done with a tool at the moment of the call. Hidden and unknown are one. */
export type Verdict =
  | { kind: "unknown" }
  | { kind: "run"; tool: KnownTool }
  | { kind: "hold"; tool: KnownTool; why: "policy" | "changed" };

/** The one door to a server's tools: listings, pins, allow-lists. Explicit, model's and approved calls all pass here. */
export type ToolDesk = {
  /** The server's tools, cached for as long as the server says, or until it says that they changed. `fresh` asks it again. */
  list: (context: Context, server: Server, options?: { fresh?: boolean }) => Promise<Listing>;
};

export function createToolDesk(world: World, access: AccessDesk): ToolDesk {
  const cached = createCache<Kept>({
    max: MAX_LISTINGS,
    maxWeight: MAX_LISTED_CHARS,
    now: world.clock.now,
  });
  const underWay = createUnderWay<string, Listing>(world.clock);

  async function listNow(
    context: Context,
    server: Server,
    door: Door & { ok: true },
    key: string,
  ): Promise<Listing> {
    // Not the caller's signal: others may wait for the same listing.
    const { trace = null } = context;
    const at = world.clock.now();
    const change = world.upstream.changeOf(door.access);
    const limits = { timeoutMs: server.timeoutMs, signal: new AbortController().signal, trace };
    const outcome = await through(door, (to) => world.upstream.listTools(to, limits));
    if (!outcome.ok) return outcome;
    const hashed = await Promise.all(outcome.tools.map((definition) => hashDefinition(world, definition)));
    const pins = await pinsOf(context, server, hashed);
    const tools = new Map(hashed.map((tool) => [tool.definition.name, know(server, tool, pins)]));
    const listing = { ok: true as const, tools };
    const weight = hashed.reduce((sum, { chars }) => sum + chars, 0);
    // One that was begun later says what is true by now.
    const isNewest = (cached.get(key)?.at ?? at) <= at;
    if (isNewest) cached.set(key, { listing, at, change }, { ttlMs: listingLifeMs(outcome.ttlMs), weight });
    return listing;
  }

  async function pinsOf(
    context: Context,
    server: Server,
    tools: { definition: ToolDefinition; hash: string }[],
  ): Promise<Pins> {
    const known = await readPins(world, context, server);
    // Only a listing for the connection itself says what the connection has seen.
    if (!server.record) return known;
    const key = pinKey(context, server.record.connection);
    const news = tools
      .map(({ definition, hash }) => ({ tool: definition.name, hash }))
      .filter(({ tool, hash }) => !known.get(tool)?.some((pin) => pin.seen === hash));
    if (news.length === 0) return known;
    const pins = byTool(await world.store.toolPins.record(key, news, world.clock.now()));
    const changed = news.filter(({ tool, hash }) => isChanged(pins, tool, hash));
    await Promise.all(
      changed.map(({ tool, hash }) => {
        const facts = {
          connection: server.record?.connection.name ?? null,
          tool,
          detail: { definitionHash: hash },
        };
        return world.audit.record(auditEntry(world, context, "tool_changed", facts));
      }),
    );
    return pins;
  }

  /** The server said that its tools changed. One that says so all the time is asked as often as one that keeps nothing. */
  function isOld({ at, change }: Kept, access: UpstreamAccess): boolean {
    return change !== world.upstream.changeOf(access) && world.clock.now() - at >= MIN_LISTING_MS;
  }

  /** An admin may have accepted a changed tool on another replica meanwhile: pins are rows, so they are read. */
  async function withCurrentPins(
    context: Context,
    server: Server,
    listing: Listing & { ok: true },
  ): Promise<Listing> {
    if (![...listing.tools.values()].some((tool) => tool.changed)) return listing;
    const pins = await readPins(world, context, server);
    const tools = [...listing.tools].map(([name, tool]) => [name, know(server, tool, pins)] as const);
    return { ok: true, tools: new Map(tools) };
  }

  return {
    list: async (context, server, options = {}) => {
      const door = await access.open(context, server);
      if (!door.ok) return door;
      const trust = server.policies.every((policy) => policy.trustAnnotations);
      const key = `${door.access.partition}|${server.url}|${trust}`;
      const known = options.fresh ? undefined : cached.get(key);
      if (known && !isOld(known, door.access)) return withCurrentPins(context, server, known.listing);
      // Several approvals of one answer share a fresh listing; it begins after all of them were decided.
      const turn = options.fresh ? `${key}|fresh` : key;
      const begin = () => listNow(context, server, door, key);
      return underWay.join(turn, { begin, withinMs: 2 * server.timeoutMs + AROUND_LISTING_MS });
    },
  };
}

/** Beside the two requests that a listing may need: another token between them, and its pins. */
const AROUND_LISTING_MS = 3 * 60_000;
const MAX_LISTINGS = 2_000;
/** Of all cached definitions together. Parsed, a hostile one takes some 17 times as many bytes. */
const MAX_LISTED_CHARS = 16 * 1024 * 1024;
/** A server that says "do not cache" (or nothing) is asked again for the next request, not for each call of a burst. */
const MIN_LISTING_MS = 250;
const UNSAID_LISTING_MS = 1_000;
const MAX_LISTING_MS = 60 * 60_000;

function listingLifeMs(ttlMs: number | null): number {
  return Math.min(Math.max(ttlMs ?? UNSAID_LISTING_MS, MIN_LISTING_MS), MAX_LISTING_MS);
}

/** Pins by tool name; several where several connections lead to the place. */
type Pins = Map<string, ToolPin[]>;

async function readPins(world: World, context: Context, server: Server): Promise<Pins> {
  const keys = server.pinnedBy.map((connection) => pinKey(context, connection));
  const pins = await Promise.all(keys.map((key) => world.store.toolPins.list(key)));
  return byTool(pins.flat());
}

function pinKey(context: Context, { id, target }: Connection): PinKey {
  return { project: context.project.name, connectionId: id, place: placeOf(target) };
}

function byTool(pins: ToolPin[]): Pins {
  return Map.groupBy(pins, ({ tool }) => tool);
}

function isChanged(pins: Pins, tool: string, hash: string): boolean {
  return pins.get(tool)?.some(({ pinned }) => pinned !== hash) ?? false;
}

function know(
  server: Server,
  { definition, hash }: { definition: ToolDefinition; hash: string },
  pins: Pins,
): KnownTool {
  const changed = isChanged(pins, definition.name, hash);
  const trusted = !changed && server.policies.every((policy) => policy.trustAnnotations);
  return { definition, hash, changed, readOnly: trusted && definition.annotations["readOnlyHint"] === true };
}

/** A definition, what all that a model or a person judges it by hashes to, and how long that is. */
async function hashDefinition(
  world: Pick<World, "crypto">,
  definition: ToolDefinition,
): Promise<{ definition: ToolDefinition; hash: string; chars: number }> {
  const { name, title, description, inputSchema, outputSchema, annotations } = definition;
  const text = canonicalJson({ name, title, description, inputSchema, outputSchema, annotations });
  return { definition, hash: await world.crypto.sha256(text), chars: text.length };
}

/** Whether the tool is offered at all: the connection's list and the request's, on listing and on call alike. */
export function isOffered(server: Server, known: KnownTool): boolean {
  const tool = { name: known.definition.name, readOnly: known.readOnly };
  return (
    isAllowed(server.tool.allowedTools, tool) &&
    server.policies.every((policy) => isAllowed(policy.allowedTools, tool))
  );
}

/** What happens when `name` is called now. */
export function judge(server: Server, listing: Listing & { ok: true }, name: string): Verdict {
  const known = listing.tools.get(name);
  if (!known || !isOffered(server, known)) return { kind: "unknown" };
  if (known.changed) return { kind: "hold", tool: known, why: "changed" };
  const facts = { name, readOnly: known.readOnly };
  const asks =
    needsApproval(server.tool.requireApproval, facts) ||
    server.policies.some(
      (policy) => policy.requireApproval !== null && needsApproval(policy.requireApproval, facts),
    );
  return asks ? { kind: "hold", tool: known, why: "policy" } : { kind: "run", tool: known };
}

/** The tools that a caller sees: allowed ones only, our `read_only` beside the server's hints. */
export function offered(server: Server, listing: Listing & { ok: true }): ListedTool[] {
  return [...listing.tools.values()]
    .filter((known) => isOffered(server, known))
    .map((known) => ({
      name: known.definition.name,
      description: known.definition.description ?? "",
      inputSchema: known.definition.inputSchema,
      annotations: { ...withoutNulls(known.definition.annotations), read_only: known.readOnly },
    }));
}

function withoutNulls(object: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null));
}
