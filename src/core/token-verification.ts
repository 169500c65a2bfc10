import type { SigningAlgorithm } from "./issuers.ts";
import type { JsonObject } from "./json.ts";

/** What a token is held to: one issuer's rules, by which nothing in the token itself has a say. */
export type TokenTrust = {
  /** `iss`, byte for byte. */
  iss: string;
  keys: KeySource;
  algorithms: readonly SigningAlgorithm[];
  /** One of these must be among `aud`. */
  audiences: readonly string[];
  clockSkewSeconds: number;
};

/** Whose published keys count. */
export type KeySource = {
  /** Byte for byte the `issuer` of the metadata that name the keys. */
  issuer: string;
  /** Entra publishes keys that are another tenant's beside a tenant's own. Null: an issuer that is not Entra. */
  tenant: string | null;
};

/** Why a token is not believed, for our own log: whoever sent it hears one sentence for all of them. */
export type TokenFault =
  | "too_large"
  | "malformed"
  | "type" // RFC 8725, 3.11: a JWT that was made for something else
  | "critical" // RFC 7515, 4.1.11: an extension that we must understand and do not
  | "algorithm"
  | "key" // none of the issuer's that the token could be signed with
  | "signature"
  | "issuer"
  | "audience"
  | "expired"
  | "not_yet"
  | "claims"
  | "bound"; // RFC 7800: bound to a key that nobody proves to have here

/** `expiresAt`: milliseconds since the epoch. */
export type TokenOutcome =
  | { ok: true; claims: JsonObject; expiresAt: number }
  | { ok: false; fault: TokenFault };

/** Checks signed tokens. What was believed is remembered for minutes, by the hash of the token and what it was held to. */
export type TokenVerifier = {
  /** Throws `unavailable` when the issuer's keys cannot be had: then nobody knows, and it is no fault of the token's. */
  verify: (token: string, trust: TokenTrust) => Promise<TokenOutcome>;
};

/** Longer ones are refused before anything of them is read. */
export const MAX_TOKEN_CHARS = 16_384;

/** An issuer's public keys as it published them at one time; another object is another time. */
export type KeySet = { readonly keys: readonly JsonObject[] };

/**
 * Keys of issuers, remembered for minutes, one request however many wait. When the issuer is away what is remembered serves on
 * for a bounded time. Both throw `unavailable` when there is nothing to go by.
 */
export type IssuerKeys = {
  of: (source: KeySource) => Promise<KeySet>;
  /** A key was not in `seen`: looks again, unless that was done a moment ago. Gives the same object when nothing is newer. */
  again: (source: KeySource, seen: KeySet) => Promise<KeySet>;
};
