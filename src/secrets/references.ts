import { createCache } from "../core/cache.ts";
import { BrokerError } from "../core/errors.ts";
import type { Clock, Log } from "../core/ports.ts";
import type { SecretReferences } from "../core/secret-references.ts";
import { createSharedWork } from "../core/shared-work.ts";
import type { VaultOutcome, Vaults } from "./keyvault.ts";
import type { Place } from "./secret-places.ts";
import type { SecretSources } from "./secret-sources.ts";

/**
 * Secrets that are kept in vaults, in the environment or in files, as far as the operator lends them. Who asks is judged every
 * time; a place is asked once for all that wait, and what it gave is believed for `FRESH_MS`, what it refused for
 * `FAILURE_MS` or for as long as it wants to be left alone.
 *
 * A place that refuses (403, 404) is believed. One that does not answer is not: what it gave last serves on for `SERVE_MS`.
 */
export function createReferences(deps: {
  sources: SecretSources;
  vaults: Pick<Vaults, "value">;
  files: (path: string, within: string | null) => Promise<VaultOutcome<string>>;
  env: Record<string, string | undefined>;
  clock: Clock;
  log: Log;
}): SecretReferences {
  const { sources, vaults, files, env, clock, log } = deps;
  const look = createSharedWork<VaultOutcome<string>>({
    max: MAX_KEPT,
    clock,
    withinMs: LOOK_MS,
    keepMs: (outcome) => (outcome.ok ? FRESH_MS : Math.max(FAILURE_MS, outcome.failure.waitMs)),
  });
  const lastGood = createCache<{ value: string; at: number }>({ max: MAX_KEPT, now: clock.now });
  const failing = createCache<true>({ max: MAX_KEPT, now: clock.now });

  async function ask(place: Place, within: string | null): Promise<VaultOutcome<string>> {
    switch (place.kind) {
      case "keyvault":
        return vaults.value(place.secret);
      case "env": {
        const value = env[place.name];
        // An environment is an object, with `constructor` and its like.
        return typeof value === "string" ? { ok: true, value } : missing("there is no such variable");
      }
      case "file":
        return files(place.path, within);
    }
  }

  async function read(key: string, ref: string, lent: { place: Place; within: string | null }) {
    const at = clock.now();
    const outcome = judged(await ask(lent.place, lent.within));
    if (outcome.ok) {
      lastGood.set(key, { value: outcome.value, at }, { ttlMs: REMEMBER_MS });
      if (failing.get(key)) log("info", "secret_reachable", { ref });
      failing.set(key, true, { ttlMs: 0 });
      return outcome;
    }
    const { kind, why } = outcome.failure;
    if (!failing.get(key)) log("warn", "secret_unreachable", { ref, kind, why });
    failing.set(key, true, { ttlMs: REMEMBER_MS });
    return outcome;
  }

  function refused(ref: string, why: string): BrokerError<"unavailable"> {
    return new BrokerError("unavailable", {
      what: `the secret ${ref} ${why}`,
      reference: ref,
      passing: true,
    });
  }

  return {
    fault: (project, ref) => {
      const lent = sources.lent(project, ref);
      return lent.ok ? null : lent.why;
    },
    resolve: async (project, ref) => {
      const lent = sources.lent(project, ref);
      if (!lent.ok) throw refused(ref, lent.why);
      // By the place and not by its spelling, of which there are many.
      const key = JSON.stringify([lent.place, lent.within]);
      const outcome = await look(key, () => read(key, ref, lent));
      if (outcome.ok) return outcome.value;
      const { kind, why } = outcome.failure;
      const last = kind === "away" ? lastGood.get(key) : undefined;
      if (!last) throw refused(ref, `cannot be read: ${why}`);
      const age = clock.now() - last.at;
      if (age <= SERVE_MS) return last.value;
      throw refused(ref, `could not be read for ${Math.floor(age / MINUTE_MS)} minutes: ${why}`);
    },
  };
}

const MINUTE_MS = 60_000;
/** How long a rotation can go unseen. */
export const FRESH_MS = 5 * MINUTE_MS;
export const FAILURE_MS = 10_000;
/** How long what a place gave last serves while it does not answer. */
export const SERVE_MS = 60 * MINUTE_MS;
/** How long a place is waited for that another request has asked: more than its own time limit. */
const LOOK_MS = 2 * MINUTE_MS;
/** How long it is known since when it does not. */
const REMEMBER_MS = 24 * 60 * MINUTE_MS;
const MAX_KEPT = 1_000;
/** As much as any header or secret may have. */
const MAX_CHARS = 64 * 1024;

function judged(outcome: VaultOutcome<string>): VaultOutcome<string> {
  if (!outcome.ok) return outcome;
  if (outcome.value === "") return missing("it is empty");
  return outcome.value.length > MAX_CHARS ? missing(`it has more than ${MAX_CHARS} characters`) : outcome;
}

function missing(why: string): VaultOutcome<string> {
  return { ok: false, failure: { kind: "missing", why, waitMs: 0 } };
}
