import { isJsonObject } from "../core/json.ts";
import type { UpstreamAccess } from "../core/ports.ts";
import { TOOLS_CHANGED, type Changes } from "./mcp-changes.ts";
import { startDeadline, type Deadline } from "./mcp-deadline.ts";
import type { Outside } from "./mcp-exchange.ts";
import { isTaken, mediaTypeOf, request } from "./mcp-http.ts";
import { type ClientInfo, type Line, phrase } from "./mcp-line.ts";
import { MAX_SUBSCRIPTION_BYTES, MAX_SUBSCRIPTIONS, SUBSCRIBED_MS, SUBSCRIBE_FROM_MS } from "./mcp-limits.ts";
import { hear } from "./mcp-listen.ts";
import { readMessage } from "./mcp-message.ts";

/**
 * Streams on which stateless servers say that their tools changed (2026-07-28, `subscriptions/listen`). One for each URL whose
 * listing is kept for long, opened beside a listing or a call, with its credential, for minutes; the next call opens another.
 * A server that has none is not asked again for as long: then a listing is kept for as long as its server said.
 */
export type Subscriptions = {
  /** A listing of the server is kept for so long. */
  kept: (to: To, keptMs: number) => void;
  /** Somebody calls there. */
  used: (to: To) => void;
  /** Ends those whose credential this is true for. */
  stop: (isOver: (access: UpstreamAccess) => boolean) => void;
  close: () => void;
};

type To = { access: UpstreamAccess; line: Line };
type Entry = {
  /** Until when a listing is kept. */
  until: number;
  /** When to ask for a stream again. */
  askAt: number;
  open: { access: UpstreamAccess; stop: () => void } | null;
};

export function createSubscriptions(
  outside: Outside,
  { changes, clientInfo, nextId }: { changes: Changes; clientInfo: ClientInfo; nextId: () => number },
): Subscriptions {
  const { clock } = outside;
  const entries = new Map<string, Entry>();

  function used(to: To): void {
    const entry = entries.get(to.access.url);
    if (!entry || entry.open || to.line.era !== "modern") return;
    const now = clock.now();
    if (entry.until > now && entry.askAt <= now) open(entry, to);
  }

  function open(entry: Entry, to: To): void {
    const stopped = new AbortController();
    const deadline = startDeadline(clock, { timeoutMs: SUBSCRIBED_MS, signal: stopped.signal });
    const { access } = to;
    const stop = () => {
      deadline.stop();
      stopped.abort();
      entry.open = null;
    };
    const own = { access, stop: () => deadline.cancel("It is not wanted any more.") };
    entry.open = own;
    entry.askAt = clock.now() + SUBSCRIBED_MS;
    void listen(to, deadline).finally(stop);
  }

  async function listen({ access, line }: To, deadline: Deadline): Promise<void> {
    const question = {
      id: nextId(),
      method: "subscriptions/listen",
      params: { notifications: { toolsListChanged: true } },
      mirrored: {},
    };
    const { message, headers } = phrase(line, question, { info: clientInfo, capabilities: {} });
    const sent = await request(outside.egress, {
      access,
      method: "POST",
      headers: {
        ...headers,
        accept: "application/json, text/event-stream",
        "content-type": "application/json",
      },
      body: JSON.stringify(message),
      deadline,
      maxBytes: MAX_SUBSCRIPTION_BYTES,
    });
    if (!sent.ok) return;
    const { response } = sent;
    if (!isTaken(response) || mediaTypeOf(response) !== "text/event-stream") return response.discard();
    await hear(response, (said) => {
      const heard = readMessage(said, message);
      if (heard.kind === "notification" && heard.method === TOOLS_CHANGED) changes.note(access.url);
      // A server that would tell nothing of what was wanted only costs a connection.
      if (heard.kind === "notification" && heard.method === ACKNOWLEDGED) {
        const { notifications } = heard.params;
        const isGranted = isJsonObject(notifications) && notifications.toolsListChanged === true;
        if (!isGranted) deadline.cancel("The server tells no changes.");
      }
    });
  }

  return {
    kept: (to, keptMs) => {
      // Where the runtime ends what a request began, a stream would hear of the next seconds alone.
      const isHeard = to.line.era === "modern" && clock.cutsAfterMs === undefined;
      if (!isHeard || keptMs < SUBSCRIBE_FROM_MS) return;
      const { url } = to.access;
      const entry: Entry = entries.get(url) ?? { until: 0, askAt: 0, open: null };
      entry.until = clock.now() + keptMs;
      entries.delete(url);
      entries.set(url, entry);
      const [oldest] = entries;
      if (entries.size > MAX_SUBSCRIPTIONS && oldest) {
        entries.delete(oldest[0]);
        oldest[1].open?.stop();
      }
      used(to);
    },
    used,
    stop: (isOver) => {
      for (const entry of entries.values()) {
        if (!entry.open || !isOver(entry.open.access)) continue;
        entry.open.stop();
        // The server had one: whoever calls next may listen with their own.
        entry.askAt = 0;
      }
    },
    close: () => {
      for (const { open: stream } of entries.values()) stream?.stop();
      entries.clear();
    },
  };
}

const ACKNOWLEDGED = "notifications/subscriptions/acknowledged";
