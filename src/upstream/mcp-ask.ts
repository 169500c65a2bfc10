import type { JsonObject } from "../core/json.ts";
import type { ProgressWatch, UpstreamAccess, UpstreamFailure } from "../core/ports.ts";
import { replyTo, type Answering } from "./mcp-answering.ts";
import { TOOLS_CHANGED, type Changes } from "./mcp-changes.ts";
import type { Deadline } from "./mcp-deadline.ts";
import { declinedByCode, explained } from "./mcp-declined.ts";
import { exchange, tell, type Ask, type Exchanged, type Outside } from "./mcp-exchange.ts";
import { visible, type Failed } from "./mcp-failures.ts";
import { lineHeaders, phrase, type ClientInfo, type Line, type Question } from "./mcp-line.ts";
import type { Lines } from "./mcp-lines.ts";
import { COURTESY_MS, MAX_SERVER_REQUESTS } from "./mcp-limits.ts";
import type { Listeners } from "./mcp-listen.ts";
import { createProgressEar, PROGRESS } from "./mcp-progress.ts";
import type { Subscriptions } from "./mcp-subscriptions.ts";

export type Asking = {
  outside: Outside;
  lines: Lines;
  listeners: Listeners;
  changes: Changes;
  subscriptions: Subscriptions;
  clientInfo: ClientInfo;
  nextId: () => number;
};

/**
 * What a server answered, on which line, how long it was; or why it did not. `sent` as in `CallOutcome`. `declined`: the
 * methods of what it asked of us meanwhile and was not given.
 */
export type Asked = { declined?: readonly string[] } & (
  | { ok: true; result: JsonObject; line: Line; bytes: number }
  | { ok: false; failure: UpstreamFailure; sent: boolean }
);

export type To = {
  access: UpstreamAccess;
  question: Question;
  deadline: Deadline;
  maxBytes: number;
  answering: Answering;
  /** Null: nobody wants to hear of progress, and the server is not asked to tell. */
  progress: ProgressWatch | null;
};

/** Asks a server; once more on another line, where it surely had not taken up the question on the first. */
export async function ask(asking: Asking, to: To): Promise<Asked> {
  const { access, deadline } = to;
  const { capabilities } = to.answering;
  let before: { line: Line; asked: Asked; lost: Lost } | null = null;
  for (;;) {
    const held = await asking.lines.take(access, { deadline, capabilities });
    if (!held.ok) return held;
    const { line } = held;
    if (before?.lost.what === "era" && line.era === before.line.era && line.version === before.line.version) {
      // It is what it was: the first answer stands.
      held.release();
      return before.asked;
    }
    const declined: string[] = [];
    const outcome = await askOn(asking, { ...to, line, declined }).finally(held.release);
    const asked: Asked = { ...read(outcome, { access, line }), ...(declined.length > 0 && { declined }) };
    const lost = lostIn(outcome, line);
    if (lost) {
      asking.lines.drop(access, line, lost.what);
      if (line.era === "legacy") asking.listeners.stop(line);
    }
    if (!lost?.again || before) return asked;
    before = { line, asked, lost };
  }
}

function read(outcome: Exchanged | Failed, { access, line }: { access: UpstreamAccess; line: Line }): Asked {
  if (!outcome.ok) return outcome;
  const { answer, bytes } = outcome;
  if (answer.kind === "result") return { ok: true, result: answer.result, line, bytes };
  const { code, message } = answer.error;
  const failure = { kind: "protocol" as const, code, message: visible(message, access) };
  const wants = declinedByCode(code);
  return { ok: false, failure: wants === null ? failure : explained(failure, wants), sent: true };
}

/**
 * Asks one question on a line. On the older revisions a server may ask back meanwhile, and is answered; and giving up is
 * said aloud there, while in 2026-07-28 closing the stream says it ("Cancellation").
 */
async function askOn(
  { outside, listeners, changes, subscriptions, clientInfo, nextId }: Asking,
  to: To & { line: Line; declined: string[] },
): Promise<Exchanged | Failed> {
  const { access, line, question, deadline, maxBytes, answering, progress } = to;
  const legacy = line.era === "legacy";
  const sayAside = (message: Parameters<typeof tell>[2]) =>
    void outside.asides.run(
      (aside) => tell(outside, { access, headers: lineHeaders(line), deadline: aside }, message),
      COURTESY_MS,
    );
  // Only the older revisions ask back.
  const over = legacy ? new AbortController() : null;
  let heard = 0;
  const onRequest: Ask["onRequest"] = (request) => {
    if (!over || ++heard > MAX_SERVER_REQUESTS) return;
    void replyTo(request, { answering, signal: over.signal }).then((reply) => {
      if ("error" in reply) to.declined.push(request.method);
      if (!over.signal.aborted) sayAside(reply);
    });
  };
  if (line.era === "legacy") await listeners.ensure({ access, line, answering }, deadline);
  else subscriptions.used({ access, line });
  const id = nextId();
  const hearing = { clock: outside.clock, access, deadline };
  const onProgress = progress && createProgressEar(hearing, { token: id, watch: progress });
  const asked = phrase(
    line,
    { ...question, id, progressToken: onProgress && id },
    { info: clientInfo, capabilities: answering.capabilities },
  );
  const outcome = await exchange(outside, {
    access,
    ...asked,
    deadline,
    maxBytes,
    resumable: legacy,
    onRequest,
    onNotification: ({ method, params }) => {
      if (method === PROGRESS) onProgress?.(params);
      if (method === TOOLS_CHANGED) changes.note(access.url);
    },
  });
  // A reason of our own: the default one is a DOMException with its stack, made for every call.
  over?.abort("answered");
  if (legacy && !outcome.ok && outcome.sent && deadline.ended()) {
    const params = { requestId: id, reason: outcome.failure.message };
    sayAside({ jsonrpc: "2.0", method: "notifications/cancelled", params });
  }
  return outcome;
}

/**
 * What an outcome says about the line. `again`: the server surely did not take up the request, so that it may be asked
 * once more, on another line.
 */
type Lost = { what: "session" | "era"; again: boolean };

function lostIn(outcome: Exchanged | Failed, line: Line): Lost | null {
  const sessionful = line.era === "legacy" && line.session !== null;
  if (outcome.ok) {
    const code = outcome.answer.kind === "error" ? outcome.answer.error.code : null;
    if (code === UNSUPPORTED_VERSION) return { what: "era", again: true };
    // How SDKs of the older revisions refuse a request whose session or revision they do not know, even by its name.
    if (code !== BAD_REQUEST || outcome.status !== 400) return null;
    return sessionful ? { what: "session", again: false } : { what: "era", again: true };
  }
  const { failure, unread } = outcome;
  if (!unread || failure.kind !== "http") return null;
  if (!sessionful) return FOREIGN.includes(failure.status) ? { what: "era", again: true } : null;
  // 404 says so (2025-11-25, "Session Management"); some servers say it with 400 and words of their own.
  if (failure.status === 404 || (failure.status === 400 && unread === "rpc"))
    return { what: "session", again: true };
  return failure.status === 400 || failure.status === 410 ? { what: "session", again: false } : null;
}

// How servers of one era turn away requests of the other.
const FOREIGN = [400, 404, 405, 406, 415];
const UNSUPPORTED_VERSION = -32022;
const BAD_REQUEST = -32000;
