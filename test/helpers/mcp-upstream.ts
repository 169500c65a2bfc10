import { setTimeout as wait } from "node:timers/promises";
import type { CallLimits, Clock, UpstreamAccess } from "../../src/core/ports.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { type Answering, NO_ANSWERS } from "../../src/upstream/mcp-answering.ts";
import { createMcpUpstream, type McpUpstream } from "../../src/upstream/mcp.ts";

export type LogLine = { level: string; event: string; fields: Record<string, unknown> };
export type TestUpstream = McpUpstream & { logged: LogLine[] };

/** The real thing over the real egress, with loopback allowed. `close` closes both. */
export function createTestUpstream({
  clock = realClock,
  answering = NO_ANSWERS,
}: { clock?: Clock; answering?: Answering } = {}): TestUpstream {
  const logged: LogLine[] = [];
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  const upstream = createMcpUpstream({
    egress,
    clock,
    log: (level, event, fields = {}) => logged.push({ level, event, fields }),
    clientInfo: { name: "consentry-test", version: "0.0.1" },
    answering,
  });
  return {
    ...upstream,
    logged,
    close: async () => {
      await upstream.close();
      await egress.close();
    },
  };
}

/** Access as one user has it. Another partition is another session, too, as it is in the broker. */
export function accessTo(url: string, who: Partial<Omit<UpstreamAccess, "url">> = {}): UpstreamAccess {
  const partition = who.partition ?? "conn_1:1";
  const session = who.session ?? `${partition}:app:ada`;
  const holder = { project: "default", connection: partition, owner: session };
  return { url, headers: {}, holder, ...who, session, partition };
}

export function within(timeoutMs: number, signal = new AbortController().signal): CallLimits {
  return { timeoutMs, signal };
}

export const callOf = (name: string, args: Record<string, string | number> = {}) => ({
  name,
  arguments: args,
  definition: null,
});

export const realClock: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    await wait(ms, undefined, { signal }).catch(() => {});
  },
};

/** Time that passes only when told. */
export function createManualClock(start = Date.UTC(2026, 6, 28)): Clock & { advance: (ms: number) => void } {
  let now = start;
  const sleepers = new Set<{ until: number; wake: () => void }>();
  return {
    now: () => now,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        const wake = () => {
          sleepers.delete(sleeper);
          resolve();
        };
        const sleeper = { until: now + ms, wake };
        sleepers.add(sleeper);
        signal?.addEventListener("abort", wake, { once: true });
        if (signal?.aborted) wake();
      }),
    advance: (ms) => {
      now += ms;
      for (const sleeper of sleepers) if (sleeper.until <= now) sleeper.wake();
    },
  };
}
