import { begun, joined, type Begun } from "../core/joined.ts";
import type { JsonObject } from "../core/json.ts";
import type { Clock, Log, SessionsOf, UpstreamAccess } from "../core/ports.ts";
import { startDeadline, type Deadline } from "./mcp-deadline.ts";
import { createEras } from "./mcp-eras.ts";
import { failed, type Failed } from "./mcp-failures.ts";
import type { LegacyLine, Line } from "./mcp-line.ts";
import { CONNECT_MS } from "./mcp-limits.ts";
import { createSessions, keyOf } from "./mcp-sessions.ts";

/** A line to a server, to be given back after use. */
export type Held = { ok: true; line: Line; release: () => void };

/**
 * Lines to servers. What is known about a server holds for everybody; sessions belong to whom `session` of the
 * access names. A line to a server already known costs no request, and who waits twice for one first contact shares it.
 */
export type Lines = {
  /** `capabilities`: what is declared where the line has to be made; a session keeps those that it began with. */
  take: (access: UpstreamAccess, to: Taking) => Promise<Held | Failed>;
  /** The line works no more: the server has forgotten the session, or is not of the era that it was. */
  drop: (access: UpstreamAccess, line: Line, lost: "session" | "era") => void;
  /** Ends the sessions of these; resolves when their servers were told, within a bound. */
  putOut: (of: SessionsOf) => Promise<void>;
  /** Ends all sessions and what is on its way. */
  close: () => void;
};

type Taking = { deadline: Deadline; capabilities: JsonObject };

type Connected = { ok: true; line: Line } | Failed;

export type Connect = (options: {
  access: UpstreamAccess;
  capabilities: JsonObject;
  known: "legacy" | null;
  deadline: Deadline;
}) => Promise<Connected>;

type Flight = Begun<Connected> & { waiters: number; abort: () => void };

export function createLines({
  clock,
  log,
  connect,
  end,
}: {
  clock: Clock;
  log: Log;
  connect: Connect;
  end: (access: UpstreamAccess, line: LegacyLine) => Promise<void>;
}): Lines {
  const eras = createEras(clock);
  const sessions = createSessions({ clock, end });
  const flights = new Map<string, Flight>();

  function standing(access: UpstreamAccess): Held | null {
    const known = eras.get(access.url);
    if (!known) return null;
    if (known.era === "modern") return { ok: true, line: known, release: () => {} };
    const session = sessions.take(access);
    return session && { ok: true, ...session };
  }

  async function open(access: UpstreamAccess, { deadline, capabilities }: Taking): Promise<Connected> {
    const known = eras.get(access.url)?.era === "legacy" ? "legacy" : null;
    let connected = await connect({ access, capabilities, known, deadline });
    if (!connected.ok && known && movedOn(connected)) {
      eras.forget(access.url);
      connected = await connect({ access, capabilities, known: null, deadline });
    }
    if (!connected.ok) return connected;
    const { line } = connected;
    if (eras.get(access.url)?.era !== line.era) {
      log("info", "upstream_era", { server: nameOf(access.url), era: line.era, version: line.version });
    }
    eras.learn(access.url, line);
    if (line.era === "legacy") sessions.put(access, line);
    return connected;
  }

  function takeOff(access: UpstreamAccess, capabilities: JsonObject): Flight {
    forgetLate();
    const key = keyOf(access);
    const controller = new AbortController();
    const timeoutMs = connectMs(clock);
    const deadline = startDeadline(clock, { timeoutMs, signal: controller.signal });
    const leave = () => {
      deadline.stop();
      forget(key, flight);
    };
    const abort = () => {
      controller.abort();
      leave();
    };
    const begin = () => open(access, { deadline, capabilities }).finally(leave);
    const landing = begun(clock, { begin, withinMs: timeoutMs + LANDING_MS });
    const flight: Flight = { ...landing, waiters: 0, abort };
    flights.set(key, flight);
    return flight;
  }

  /** What nobody asks for again, where it was cut off. The oldest stand first. */
  function forgetLate(): void {
    for (const [key, { until }] of flights) {
      if (until > clock.now()) return;
      flights.delete(key);
    }
  }

  function forget(key: string, flight: Flight): void {
    if (flights.get(key) === flight) flights.delete(key);
  }

  function arrived(access: UpstreamAccess, landed: Connected): Held | Failed {
    if (!landed.ok) return landed;
    return standing(access) ?? { ...landed, release: () => {} };
  }

  return {
    take: async (access, { deadline, capabilities }) => {
      const key = keyOf(access);
      for (;;) {
        const ended = deadline.ended();
        if (ended) return failed(ended, { sent: false });
        const held = standing(access);
        if (held) return held;
        const flight = flights.get(key) ?? takeOff(access, capabilities);
        flight.waiters++;
        const landed = await joined(clock, flight, deadline.signal);
        flight.waiters--;
        if (landed) return arrived(access, landed.outcome);
        // Who gives up does not take the others along; the last one does.
        if (deadline.ended() && flight.waiters === 0) flight.abort();
        // It is late, or has ended with the request that it began for: another takes off.
        if (!deadline.ended()) forget(key, flight);
      }
    },
    drop: (access, line, lost) => {
      if (line.era === "legacy") sessions.forget(access, line);
      if (lost === "era") eras.forget(access.url);
    },
    putOut: sessions.putOut,
    close: () => {
      for (const flight of flights.values()) flight.abort();
      sessions.close();
    },
  };
}

/** A server that began sessions refuses to: not for want of a credential or strength, but as a thing that it knows not. */
function movedOn({ failure, unread }: Failed): boolean {
  return failure.kind === "protocol" || failure.kind === "not_mcp" || unread !== null;
}

/** A URL for the log: its query may hold a secret. */
export function nameOf(url: string): string {
  const parsed = URL.parse(url);
  return parsed ? `${parsed.origin}${parsed.pathname}` : "";
}

/** Less where a runtime may end it before: then its beginner hears of it in time, too. */
function connectMs({ cutsAfterMs = Infinity }: Clock): number {
  return Math.min(CONNECT_MS, cutsAfterMs - LANDING_MS);
}

/** So long after its time limit a first contact has surely said that it failed. */
const LANDING_MS = 5_000;
