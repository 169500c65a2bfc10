import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";

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
export function createLimits(limits: RateLimits): Limits {
  const stranger = limiter(limits.perAddress);
  const visitor = limiter(limits.perAddress);
  const returning = limiter(limits.perAddress);
  return {
    caller: limiter(limits.perCaller),
    stranger: (address) => stranger(networkOf(address)),
    visitor: (address) => visitor(networkOf(address)),
    returning: (address) => returning(networkOf(address)),
  };
}

function limiter(perMinute: number): Limiter {
  if (perMinute === 0) return async () => null;
  const memory = new RateLimiterMemory({ points: perMinute, duration: 60 });
  return async (key) => {
    try {
      await memory.consume(key);
      return null;
    } catch (spent) {
      if (spent instanceof RateLimiterRes) return Math.max(1, Math.ceil(spent.msBeforeNext / 1000));
      throw spent;
    }
  };
}

/** One IPv6 customer holds a /64: its addresses count as one. */
function networkOf(address: string): string {
  if (!address.includes(":") || address.includes(".")) return address;
  const [head = "", tail = ""] = address.split("%")[0]?.split("::") ?? [];
  const left = head === "" ? [] : head.split(":");
  const right = tail === "" ? [] : tail.split(":");
  const zeros = Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  return [...left, ...zeros, ...right].slice(0, 4).join(":");
}
