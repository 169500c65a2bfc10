import type { JsonObject } from "../core/json.ts";
import type {
  CallLimits,
  CallOutcome,
  Clock,
  ListOutcome,
  Log,
  ToolDefinition,
  Upstream,
  UpstreamAccess,
  UpstreamFailure,
} from "../core/ports.ts";
import type { Egress } from "./egress.ts";
import { NO_ANSWERS, type Answering } from "./mcp-answering.ts";
import type { Asked, Asking } from "./mcp-ask.ts";
import { createAsides } from "./mcp-asides.ts";
import { createChanges } from "./mcp-changes.ts";
import { startDeadline, type Deadline } from "./mcp-deadline.ts";
import { withDeclined } from "./mcp-declined.ts";
import { endSession } from "./mcp-exchange.ts";
import { mirrorHeaders, scanMirrored, type MirrorScan } from "./mcp-headers.ts";
import { visible } from "./mcp-failures.ts";
import { lineHeaders, type ClientInfo, type Question } from "./mcp-line.ts";
import { createLines, nameOf } from "./mcp-lines.ts";
import { createListeners } from "./mcp-listen.ts";
import { MAX_ANSWER_BYTES } from "./mcp-limits.ts";
import { listAll } from "./mcp-list.ts";
import { askInRounds } from "./mcp-rounds.ts";
import { isOf } from "./mcp-sessions.ts";
import { createSubscriptions } from "./mcp-subscriptions.ts";
import { isKnownResult, readResult, UNKNOWN_RESULT } from "./mcp-tools.ts";

/** The port, and what the port does not need: every other request of the protocol. */
export type McpUpstream = Upstream & {
  /**
   * Asks a server for `resources/*`, `prompts/*`, `completion/complete` or `ping`, and gives its result as it came;
   * one that is `input_required` means that `answering` had not what it wants. Limits and failures as in `callTool`.
   * Not for `tools/*`, which have checks of their own, and not for what makes or ends a session.
   */
  request: (
    access: UpstreamAccess,
    wanted: { method: string; params: JsonObject; answering?: Answering },
    limits: CallLimits,
  ) => Promise<RequestOutcome>;
};

/** `sent` as in `CallOutcome`. */
export type RequestOutcome =
  | { ok: true; result: JsonObject }
  | { ok: false; failure: UpstreamFailure; sent: boolean };

/**
 * Remote MCP servers over Streamable HTTP, revisions 2025-03-26 to 2026-07-28. Everything goes out through `egress`,
 * which stays its owner's to close, after this. `clientInfo` is what servers are told about us. `answering`: what we do
 * for servers that ask us something; nothing unless it is given.
 *
 * A server knows the credential that we send it. Where it repeats it in its complaints, callers and the log read
 * `[redacted]`; results and definitions of tools are the server's data and pass untouched.
 */
export function createMcpUpstream(options: {
  egress: Egress;
  clock: Clock;
  log: Log;
  clientInfo: ClientInfo;
  answering?: Answering;
}): McpUpstream {
  const { egress, clock, log, clientInfo, answering = NO_ANSWERS } = options;
  const asides = createAsides(clock);
  const outside = { egress, clock, asides };
  const changes = createChanges();
  const nextId = createCounter();
  const listeners = createListeners(outside, changes);
  const subscriptions = createSubscriptions(outside, { changes, clientInfo, nextId });
  const lines = createLines({
    clock,
    log,
    connect: async (to) => {
      // The SDK makes hundreds of schemas when it is read, and is needed for a server that is new to us alone.
      const { connect } = await import("./mcp-connect.ts");
      return connect(outside, { ...to, clientInfo });
    },
    end: (access, line) => {
      listeners.stop(line);
      return endSession(outside, { access, headers: lineHeaders(line) });
    },
  });
  const asking: Asking = { outside, lines, listeners, changes, subscriptions, clientInfo, nextId };
  const mirroredBy = createMirror();
  const active = new Map<Deadline, Promise<unknown>>();
  let closed = false;
  /** How often somebody's credential was taken back. */
  let takenBack = 0;

  /** Runs one call of the port under its limits. */
  async function limited<T>(limits: CallLimits, run: (deadline: Deadline) => Promise<T>): Promise<T> {
    const deadline = startDeadline(clock, limits);
    if (closed) deadline.cancel(STOPPING);
    const running = run(deadline);
    active.set(deadline, running);
    try {
      return await running;
    } finally {
      deadline.stop();
      active.delete(deadline);
    }
  }

  function list(
    access: UpstreamAccess,
    { trace = null }: Pick<CallLimits, "trace">,
    deadline: Deadline,
  ): Promise<ListOutcome> {
    const before = takenBack;
    return listAll(
      (params, maxBytes) =>
        askInRounds(asking, {
          access,
          deadline,
          maxBytes,
          answering,
          question: { method: "tools/list", params, mirrored: {}, trace },
          progress: null,
        }),
      {
        onDropped: (dropped) =>
          log("warn", "tools_dropped", {
            server: nameOf(access.url),
            count: dropped.length,
            tools: dropped
              .slice(0, MAX_DROPS_LOGGED)
              .map(({ name, why }) => ({ name: visible(name, access), why })),
          }),
        onKept: (line, ttlMs) => {
          // It may have been this one's, and its streams have been ended: no other begins. The next listing opens one.
          if (takenBack === before) subscriptions.kept({ access, line }, ttlMs);
        },
      },
    );
  }

  function call(
    access: UpstreamAccess,
    { name, arguments: args, definition, trace = null, progress = null }: Wanted,
    deadline: Deadline,
  ): Promise<Asked> {
    const params = { name, arguments: args };
    const mirrored = mirroredBy(definition, args);
    const question: Question = { method: "tools/call", params, mirrored, trace };
    return askInRounds(asking, {
      access,
      deadline,
      maxBytes: MAX_ANSWER_BYTES,
      answering,
      question,
      progress,
    });
  }

  return {
    listTools: (access, limits) => limited(limits, (deadline) => list(access, limits, deadline)),
    callTool: (access, wanted, limits) =>
      limited(limits, async (deadline) => {
        const { trace = null, progress = null } = limits;
        const asked = await call(access, { ...wanted, trace, progress }, deadline);
        if (!isHeaderMismatch(asked)) return outcomeOf(asked);
        // It wants arguments mirrored that the definition at hand does not tell of (2026-07-28, "x-mcp-header"). It
        // refused before running anything, so the call may be made again, once.
        const listed = await list(access, limits, deadline);
        if (!listed.ok) return outcomeOf(asked);
        const definition = listed.tools.find(({ name }) => name === wanted.name) ?? null;
        const told = mirroredBy(wanted.definition, wanted.arguments);
        if (sameHeaders(told, mirroredBy(definition, wanted.arguments))) return outcomeOf(asked);
        return outcomeOf(await call(access, { ...wanted, definition, trace, progress }, deadline));
      }),
    request: (access, { method, params, answering: ownAnswering = answering }, limits) =>
      limited(limits, async (deadline) => {
        const question: Question = { method, params, mirrored: {}, trace: limits.trace ?? null };
        const asked = await askInRounds(asking, {
          access,
          deadline,
          maxBytes: MAX_ANSWER_BYTES,
          answering: ownAnswering,
          question,
          progress: limits.progress ?? null,
        });
        if (!asked.ok) return { ok: false, failure: asked.failure, sent: asked.sent };
        if (!isKnownResult(asked.result, asked.line))
          return { ok: false, failure: UNKNOWN_RESULT, sent: true };
        return { ok: true, result: asked.result };
      }),
    endSessions: (of) => {
      takenBack++;
      subscriptions.stop((access) => isOf(access, of));
      return lines.putOut(of);
    },
    changeOf: ({ url }) => changes.of(url),
    close: async () => {
      closed = true;
      for (const deadline of active.keys()) deadline.cancel(STOPPING);
      await Promise.allSettled(active.values());
      lines.close();
      listeners.close();
      subscriptions.close();
      await asides.settled();
    },
  };
}

type Wanted = Parameters<Upstream["callTool"]>[1] & Pick<CallLimits, "trace" | "progress">;

function outcomeOf(asked: Asked): CallOutcome {
  return withDeclined(readOutcome(asked), asked.declined ?? []);
}

function readOutcome(asked: Asked): CallOutcome {
  if (!asked.ok) return { ok: false, failure: asked.failure, sent: asked.sent };
  const read = readResult(asked.result, asked.line);
  if ("kind" in read) return { ok: false, failure: read, sent: true };
  return { ok: true, result: read };
}

/** Reads a definition's wishes once for as long as its owner keeps it, not at every call. */
function createMirror(): (definition: ToolDefinition | null, args: JsonObject) => Record<string, string> {
  const scans = new WeakMap<JsonObject, MirrorScan>();
  return (definition, args) => {
    if (!definition) return {};
    const { inputSchema } = definition;
    const scan = scans.get(inputSchema) ?? scanMirrored(inputSchema);
    scans.set(inputSchema, scan);
    return scan.ok ? mirrorHeaders(scan.mirrored, args) : {};
  };
}

function isHeaderMismatch(asked: Asked): boolean {
  return !asked.ok && asked.failure.kind === "protocol" && asked.failure.code === HEADER_MISMATCH;
}

function sameHeaders(one: Record<string, string>, other: Record<string, string>): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function createCounter(): () => number {
  let last = 0;
  return () => ++last;
}

const MAX_DROPS_LOGGED = 10;
const HEADER_MISMATCH = -32020;
const STOPPING = "The call was cancelled: the broker is stopping.";
