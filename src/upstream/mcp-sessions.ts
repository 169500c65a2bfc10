import type { Clock, Holder, SessionsOf, UpstreamAccess } from "../core/ports.ts";
import type { LegacyLine } from "./mcp-line.ts";
import { LONGEST_USE_MS, MAX_SESSIONS, MAX_SESSIONS_OF_CONNECTION, SESSION_IDLE_MS } from "./mcp-limits.ts";

type Entry = {
  line: LegacyLine;
  /** Of the last use: its credential ends the session. */
  access: UpstreamAccess;
  /** When a use began or ended last. */
  usedAt: number;
  uses: number;
  /** Taken out of the pool while in use: ended with its last use. */
  retired: boolean;
};

/**
 * Sessions of older servers, one per `session` of the access and URL, never shared beyond. Bounded in number, over all and for
 * each connection, and in idle time; what is put out is told to its server by `end`, but only once nobody uses it. Servers may
 * do without session ids; then what is kept is that they have been greeted.
 */
export type Sessions = {
  /** Null: there is none. `access` is that of the use to come. */
  take: (access: UpstreamAccess) => { line: LegacyLine; release: () => void } | null;
  put: (access: UpstreamAccess, line: LegacyLine) => void;
  /** The server has forgotten this session, so there is nothing to end. */
  forget: (access: UpstreamAccess, line: LegacyLine) => void;
  /** Puts out all of these, and the next use begins another. Resolves when those that nobody uses are ended. */
  putOut: (of: SessionsOf) => Promise<void>;
  close: () => void;
};

export function createSessions({
  clock,
  end,
}: {
  clock: Clock;
  end: (access: UpstreamAccess, line: LegacyLine) => Promise<void>;
}): Sessions {
  // In the order of their last use.
  const pool = new Map<string, Entry>();
  const counts = new Map<string, number>();
  const closing = new AbortController();
  let sweeping = false;

  function count({ connection }: Holder, by: 1 | -1): void {
    const now = (counts.get(connection) ?? 0) + by;
    if (now === 0) counts.delete(connection);
    else counts.set(connection, now);
  }

  function remove(key: string, { access }: Entry): void {
    if (pool.delete(key)) count(access.holder, -1);
  }

  async function retire(key: string, entry: Entry): Promise<void> {
    remove(key, entry);
    entry.retired = true;
    await endUnused(entry);
  }

  async function endUnused(entry: Entry): Promise<void> {
    const { retired, access, line } = entry;
    if (retired && !isUsed(entry) && line.session !== null) await end(access, line);
  }

  /** A runtime that ends calls without a word lets nobody release what they used. */
  function isUsed({ uses, usedAt }: Entry): boolean {
    if (clock.cutsAfterMs !== undefined && clock.now() - usedAt >= LONGEST_USE_MS) return false;
    return uses > 0;
  }

  /** Puts out the longest unused ones until the bounds hold. What is in use stays, and `newest`. */
  function trim({ connection }: Holder, newest: string): void {
    if (pool.size <= MAX_SESSIONS && (counts.get(connection) ?? 0) <= MAX_SESSIONS_OF_CONNECTION) return;
    for (const [key, entry] of pool) {
      if (isUsed(entry) || key === newest) continue;
      const isCrowded = (counts.get(connection) ?? 0) > MAX_SESSIONS_OF_CONNECTION;
      if (!isCrowded && pool.size <= MAX_SESSIONS) return;
      if (!isCrowded || entry.access.holder.connection === connection) void retire(key, entry);
    }
  }

  async function sweep(): Promise<void> {
    // There no timer outlives its request, and a request may make so many and no more.
    if (clock.cutsAfterMs !== undefined) return retireIdle(MAX_RETIRED_AT_ONCE);
    if (sweeping) return;
    sweeping = true;
    while (pool.size > 0 && !closing.signal.aborted) {
      await clock.sleep(SESSION_IDLE_MS, closing.signal);
      retireIdle(Infinity);
    }
    sweeping = false;
  }

  function retireIdle(most: number): void {
    let left = most;
    for (const [key, entry] of pool) {
      if (isUsed(entry) || clock.now() - entry.usedAt < SESSION_IDLE_MS) continue;
      if (left-- <= 0) return;
      void retire(key, entry);
    }
  }

  return {
    take: (access) => {
      const key = keyOf(access);
      const entry = pool.get(key);
      if (!entry) return null;
      pool.delete(key);
      pool.set(key, entry);
      entry.access = access;
      entry.usedAt = clock.now();
      entry.uses++;
      const release = () => {
        entry.uses--;
        entry.usedAt = clock.now();
        void endUnused(entry);
        if (!entry.retired) trim(access.holder, key);
      };
      return { line: entry.line, release };
    },
    put: (access, line) => {
      const key = keyOf(access);
      const before = pool.get(key);
      if (before) void retire(key, before);
      pool.set(key, { line, access, usedAt: clock.now(), uses: 0, retired: false });
      count(access.holder, 1);
      trim(access.holder, key);
      void sweep();
    },
    forget: (access, line) => {
      const key = keyOf(access);
      const entry = pool.get(key);
      if (entry?.line === line) remove(key, entry);
    },
    putOut: async (of) => {
      const theirs = [...pool].filter(([, { access }]) => isOf(access, of));
      await Promise.all(theirs.map(([key, entry]) => retire(key, entry)));
    },
    close: () => {
      closing.abort();
      for (const [key, entry] of pool) void retire(key, entry);
    },
  };
}

/** Of idle ones, by a request that has begun one itself. */
const MAX_RETIRED_AT_ONCE = 5;

/** Who shares a session, or the beginning of one. */
export function keyOf({ session, url }: UpstreamAccess): string {
  return JSON.stringify([session, url]);
}

export function isOf({ holder }: UpstreamAccess, of: SessionsOf): boolean {
  const { project, connection = holder.connection, owner = holder.owner } = of;
  return holder.project === project && holder.connection === connection && holder.owner === owner;
}
