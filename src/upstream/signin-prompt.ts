import type { ServerMetadata } from "openid-client";
import { createCache } from "../core/cache.ts";
import type { OAuthFailure } from "../core/oauth.ts";

/** Whether an issuer is asked to let the person choose an account: somebody else may be signed in at this browser. */
export type Prompts = {
  /** The parameters that ask for it; none where the issuer is known not to understand. */
  paramsFor: (metadata: ServerMetadata) => { prompt?: "select_account" };
  /** What came of a sign-in at this issuer. */
  heard: (issuer: string, failure: OAuthFailure) => void;
};

/**
 * `prompt=select_account` is optional, and some issuers answer it with an error (OpenID Connect Core, 3.1.2.1). One that
 * does is not asked for an hour, by this process: a replica that has not met it meets it once.
 */
export function createPrompts(now: () => number): Prompts {
  const unwilling = createCache<true>({ max: MAX_ISSUERS, now });
  return {
    paramsFor: ({ issuer, prompt_values_supported: named }) => {
      // Initiating User Registration 1.0, 4: an issuer may name what it understands.
      const isKnown = !Array.isArray(named) || named.includes(SELECT);
      return isKnown && !unwilling.get(issuer) ? { prompt: SELECT } : {};
    },
    heard: (issuer, failure) => {
      if (failure.kind === "refused" && OF_PROMPT.has(failure.error))
        unwilling.set(issuer, true, { ttlMs: REMEMBERED_MS });
    },
  };
}

const SELECT = "select_account";
/** What issuers answer that do not know it, and those that know it and have no way to choose. */
const OF_PROMPT = new Set(["invalid_request", "account_selection_required"]);
const MAX_ISSUERS = 100;
const REMEMBERED_MS = 3_600_000;
