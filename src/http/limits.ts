import { createCache } from "../core/cache.ts";

/** Per minute; 0: unlimited. */
export type RateLimits = {
  /** Requests of one principal of one project. */
  perCaller: number;
  /** Requests of one address that name no caller we know; requests for pages and callbacks are each counted by themselves. */
  perAddress: number;
};

/** Seconds to wait, or null: go on. */
export type Limiter = (key: string) => Promise<number | null>;

export type Limits = {
  caller: Limiter;
  /**
   * Counts requests without valid credentials only: behind a proxy all callers share one address, and one stranger's
   * noise must not lock the others out.
   */
  stranger: Limiter;
  /** Requests for the pages that people see, which name no caller at all. */
  visitor: Limiter;
  /** Callbacks, with which people come back from authorization servers and sign-ins. */
  returning: Limiter;
};

/** Counters of this process; each replica allows as much. */
export function createLimits(limits: RateLimits, now: () => number): Limits {
  const stranger = limiter(limits.perAddress, now);
  const visitor = limiter(limits.perAddress, now);
  const returning = limiter(limits.perAddress, now);
  return {
    caller: limiter(limits.perCaller, now),
    stranger: (address) => stranger(networkOf(address)),
    visitor: (address) => visitor(networkOf(address)),
    returning: (address) => returning(networkOf(address)),
  };
}

/**
 * So many in each minute, which begins with a key's first. Without timers, because a Worker ends them with the request that set them; whoever
 * comes with ever new keys makes us forget the oldest, not more.
 */
function limiter(perMinute: number, now: () => number): Limiter {
  if (perMinute === 0) return async () => null;
  const counters = createCache<{ used: number; until: number }>({ max: MAX_COUNTED, now });
  return async (key) => {
    const counter = counters.get(key);
    if (!counter) {
      counters.set(key, { used: 1, until: now() + MINUTE_MS }, { ttlMs: MINUTE_MS });
      return null;
    }
    counter.used++;
    return counter.used > perMinute ? Math.max(1, Math.ceil((counter.until - now()) / 1000)) : null;
  };
}

const MINUTE_MS = 60_000;
const MAX_COUNTED = 100_000;

/** One IPv6 customer holds a /64: its addresses count as one. */
function networkOf(address: string): string {
  if (!address.includes(":") || address.includes(".")) return address;
  const [head = "", tail = ""] = address.split("%")[0]?.split("::") ?? [];
  const left = head === "" ? [] : head.split(":");
  const right = tail === "" ? [] : tail.split(":");
  const zeros = Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  return [...left, ...zeros, ...right].slice(0, 4).join(":");
}
