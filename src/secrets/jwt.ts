import {
  createLocalJWKSet,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
  type LocalJWKSet,
  type ProtectedHeaderParameters,
} from "jose";
import { createCache } from "../core/cache.ts";
import { isJsonObject, type JsonObject } from "../core/json.ts";
import type { Clock, Crypto } from "../core/ports.ts";
import {
  type IssuerKeys,
  type KeySet,
  MAX_TOKEN_CHARS,
  type TokenFault,
  type TokenOutcome,
  type TokenTrust,
  type TokenVerifier,
} from "../core/token-verification.ts";

/** Signed tokens by jose, as RFC 8725 wants it: what is accepted is said by the settings, never by the token. */
export function createTokenVerifier({
  keys,
  clock,
  crypto,
}: {
  keys: IssuerKeys;
  clock: Pick<Clock, "now">;
  crypto: Pick<Crypto, "sha256">;
}): TokenVerifier {
  const believed = createCache<TokenOutcome & { ok: true }>({
    max: MAX_BELIEVED,
    maxWeight: MAX_BELIEVED_CHARS,
    now: clock.now,
  });
  // A key is imported once for as long as its set is the issuer's.
  const resolvers = new WeakMap<KeySet, LocalJWKSet>();

  function resolverOf(set: KeySet): LocalJWKSet {
    const known = resolvers.get(set);
    if (known) return known;
    const made = createLocalJWKSet(keySetOf(set));
    resolvers.set(set, made);
    return made;
  }

  /** With the issuer's keys as they are known; and once more when the key is not among them, for it may be new. */
  async function payloadOf(token: string, trust: TokenTrust): Promise<JWTPayload> {
    const now = new Date(clock.now());
    const set = await keys.of(trust.keys);
    try {
      return await checked(token, resolverOf(set), trust, now);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      const newer = await keys.again(trust.keys, set);
      if (newer === set) throw error;
      return checked(token, resolverOf(newer), trust, now);
    }
  }

  async function judge(token: string, trust: TokenTrust): Promise<TokenOutcome> {
    const fault = headerFault(token, trust);
    if (fault !== null) return { ok: false, fault };
    try {
      return believable(await payloadOf(token, trust), trust, clock.now());
    } catch (error) {
      const translated = faultOf(error);
      if (translated === null) throw error;
      return { ok: false, fault: translated };
    }
  }

  return {
    verify: async (token, trust) => {
      if (token.length > MAX_TOKEN_CHARS) return { ok: false, fault: "too_large" };
      const key = `${await crypto.sha256(token)}|${JSON.stringify(trust)}`;
      const before = believed.get(key);
      if (before) return before;
      const outcome = await judge(token, trust);
      const leftMs = outcome.ok ? outcome.expiresAt - clock.now() : 0;
      if (!outcome.ok || leftMs <= 0) return outcome;
      believed.set(key, outcome, { ttlMs: Math.min(BELIEVED_MS, leftMs), weight: token.length });
      return outcome;
    },
  };
}

/** A signature check costs as much as the rest of a call; a key that is withdrawn is believed for so long at most. */
const BELIEVED_MS = 5 * 60_000;
const MAX_BELIEVED = 10_000;
const MAX_BELIEVED_CHARS = 16 * 1024 * 1024;

/** What the header says against a token, before any key is looked for. `jku`, `jwk`, `x5u` and `x5c` are not read at all. */
function headerFault(token: string, { algorithms }: TokenTrust): TokenFault | null {
  const header = headerOf(token);
  if (header === null) return "malformed";
  const { alg, kid, typ, crit } = header;
  if (crit !== undefined) return "critical";
  if (!algorithms.some((one) => one === alg)) return "algorithm";
  if (typ !== undefined && !(typeof typ === "string" && TYPES.has(typ.toLowerCase()))) return "type";
  const isPlain = kid === undefined || (typeof kid === "string" && kid.length <= MAX_KID_CHARS);
  return isPlain ? null : "key";
}

function headerOf(token: string): ProtectedHeaderParameters | null {
  try {
    return decodeProtectedHeader(token);
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

/** RFC 8725, 3.11, and RFC 9068, 4: logout tokens, DPoP proofs, client assertions with a type of their own are something else. */
const TYPES = new Set(["jwt", "at+jwt", "application/jwt", "application/at+jwt"]);
const MAX_KID_CHARS = 256;

async function checked(
  token: string,
  resolver: LocalJWKSet,
  trust: TokenTrust,
  now: Date,
): Promise<JWTPayload> {
  const options = {
    algorithms: [...trust.algorithms],
    issuer: trust.iss,
    audience: [...trust.audiences],
    clockTolerance: trust.clockSkewSeconds,
    currentDate: now,
    requiredClaims: ["exp"],
  };
  try {
    return (await jwtVerify(token, resolver, options)).payload;
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    let last: unknown = error;
    let tries = 0;
    // No `kid`, or one that several keys have: each is tried, as long as they are few.
    for await (const key of error) {
      if (tries++ === MAX_TRIES) break;
      try {
        return (await jwtVerify(token, key, options)).payload;
      } catch (wrong) {
        if (!(wrong instanceof errors.JWSSignatureVerificationFailed)) throw wrong;
        last = wrong;
      }
    }
    throw last;
  }
}

const MAX_TRIES = 4;

/** The rules that the library does not have. */
function believable(payload: JWTPayload, trust: TokenTrust, now: number): TokenOutcome {
  const { exp, iat } = payload;
  const claims: unknown = payload;
  if (!isJsonObject(claims) || exp === undefined || !Number.isFinite(exp))
    return { ok: false, fault: "claims" };
  if (iat !== undefined && iat > now / 1000 + trust.clockSkewSeconds) return { ok: false, fault: "not_yet" };
  if (Object.hasOwn(claims, "cnf")) return { ok: false, fault: "bound" };
  return { ok: true, claims, expiresAt: exp * 1000 };
}

/** The one place where the library's faults, and those of a key that cannot be used, are told. Null: it is a bug, or a refusal of ours. */
function faultOf(error: unknown): TokenFault | null {
  if (error instanceof errors.JWTExpired) return "expired";
  if (error instanceof errors.JWTClaimValidationFailed) return CLAIMS[error.claim] ?? "claims";
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys)
    return "key";
  if (error instanceof errors.JWSSignatureVerificationFailed) return "signature";
  if (error instanceof errors.JOSEAlgNotAllowed) return "algorithm";
  if (error instanceof errors.JWSInvalid || error instanceof errors.JWTInvalid) return "malformed";
  if (error instanceof errors.JOSEError) return "key";
  // Web Crypto's words for a key that is broken or too short for the algorithm.
  return error instanceof TypeError || error instanceof DOMException ? "key" : null;
}

const CLAIMS: Record<string, TokenFault> = { iss: "issuer", aud: "audience", nbf: "not_yet" };

/** Members were picked when the set was read; which of them a key needs is the library's to say. */
function keySetOf({ keys }: KeySet): JSONWebKeySet {
  return { keys: keys.map((key: JsonObject) => ({ kty: "", ...key })) };
}
