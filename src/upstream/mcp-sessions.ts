import type { Clock, UpstreamAccess } from "../core/ports.ts";
import type { LegacyLine } from "./mcp-line.ts";
import { MAX_SESSIONS, SESSION_IDLE_MS } from "./mcp-limits.ts";

type Entry = {
  line: LegacyLine;
  /** Of the last use: its credential ends the session. */
  access: UpstreamAccess;
  usedAt: number;
  uses: number;
  /** Taken out of the pool while in use: ended with its last use. */
  retired: boolean;
};

/**
 * Sessions of older servers, one per `session` of the access and URL, never shared beyond. Bounded in number and idle time; what is
 * put out is told to its server by `end`, but only once nobody uses it. Servers may do without session ids; then what
 * is kept is that they have been greeted.
 */
export type Sessions = {
  /** Null: there is none. `access` is that of the use to come. */
  take: (access: UpstreamAccess) => { line: LegacyLine; release: () => void } | null;
  put: (access: UpstreamAccess, line: LegacyLine) => void;
  /** The server has forgotten this session, so there is nothing to end. */
  forget: (access: UpstreamAccess, line: LegacyLine) => void;
  close: () => void;
};

export function createSessions({
  clock,
  end,
}: {
  clock: Clock;
  end: (access: UpstreamAccess, line: LegacyLine) => void;
}): Sessions {
  const pool = new Map<string, Entry>();
  const closing = new AbortController();
  let sweeping = false;

  function retire(key: string, entry: Entry): void {
    pool.delete(key);
    entry.retired = true;
    endUnused(entry);
  }

  function endUnused({ retired, uses, access, line }: Entry): void {
    if (retired && uses === 0 && line.session !== null) end(access, line);
  }

  async function sweep(): Promise<void> {
    if (sweeping) return;
    sweeping = true;
    while (pool.size > 0 && !closing.signal.aborted) {
      await clock.sleep(SESSION_IDLE_MS, closing.signal);
      for (const [key, entry] of pool) {
        if (entry.uses === 0 && clock.now() - entry.usedAt >= SESSION_IDLE_MS) retire(key, entry);
      }
    }
    sweeping = false;
  }

  return {
    take: (access) => {
      const key = keyOf(access);
      const entry = pool.get(key);
      if (!entry) return null;
      pool.delete(key);
      pool.set(key, entry);
      entry.access = access;
      entry.uses++;
      const release = () => {
        entry.uses--;
        entry.usedAt = clock.now();
        endUnused(entry);
      };
      return { line: entry.line, release };
    },
    put: (access, line) => {
      const key = keyOf(access);
      const before = pool.get(key);
      if (before) retire(key, before);
      pool.set(key, { line, access, usedAt: clock.now(), uses: 0, retired: false });
      if (pool.size > MAX_SESSIONS) {
        const unused = [...pool].find(([other, { uses }]) => uses === 0 && other !== key);
        if (unused) retire(...unused);
      }
      void sweep();
    },
    forget: (access, line) => {
      const key = keyOf(access);
      if (pool.get(key)?.line === line) pool.delete(key);
    },
    close: () => {
      closing.abort();
      for (const [key, entry] of pool) retire(key, entry);
    },
  };
}

/** Who shares a session, or the beginning of one. */
export function keyOf({ session, url }: UpstreamAccess): string {
  return JSON.stringify([session, url]);
}
