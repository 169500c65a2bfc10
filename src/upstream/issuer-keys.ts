import { createCache } from "../core/cache.ts";
import { BrokerError } from "../core/errors.ts";
import { createUnderWay } from "../core/joined.ts";
import { isJsonObject, type Json, type JsonObject } from "../core/json.ts";
import type { OAuthFailure } from "../core/oauth.ts";
import type { Clock, Log } from "../core/ports.ts";
import type { IssuerKeys, KeySet, KeySource } from "../core/token-verification.ts";
import { fetchDocument, type UrlFault } from "./discovery.ts";
import type { Egress } from "./egress.ts";
import { keysUrlOf } from "./issuer-metadata.ts";
import { broken, outcomeOf } from "./oauth-failures.ts";
import type { Outgoing } from "./oauth-http.ts";

/** What is known of an issuer. Times are milliseconds since the epoch. */
type Known = {
  set: KeySet | null;
  readAt: number;
  /** Where the keys are, as the metadata said at that time. */
  place: { url: string; readAt: number } | null;
  failedAt: number;
  /** When an unknown key made us look again, and whether that was answered. */
  again: { at: number; ok: boolean };
};

/** Issuers' keys over egress. Of this process alone: each replica looks for itself. */
export function createIssuerKeys(options: {
  egress: Egress;
  clientInfo: { name: string; version: string };
  urlFault: UrlFault;
  clock: Clock;
  log: Log;
}): IssuerKeys {
  const { egress, clientInfo, urlFault, clock, log } = options;
  const userAgent = `${clientInfo.name}/${clientInfo.version}`;
  const issuers = createCache<Known>({ max: MAX_ISSUERS, now: clock.now });
  const looks = createUnderWay<Known, boolean>(clock);

  function knownOf({ issuer, tenant }: KeySource): Known {
    const key = `${tenant ?? ""}|${issuer}`;
    const known = issuers.get(key) ?? {
      set: null,
      readAt: NEVER,
      place: null,
      failedAt: NEVER,
      again: { at: NEVER, ok: true },
    };
    issuers.set(key, known, { ttlMs: FRESH_MS + STALE_MS });
    return known;
  }

  async function read(out: Outgoing, source: KeySource, known: Known): Promise<void> {
    const isPlaceKnown = known.place !== null && clock.now() - known.place.readAt < FRESH_MS;
    if (!isPlaceKnown) {
      const url = await keysUrlOf(out, { issuer: source.issuer, urlFault });
      known.place = { url, readAt: clock.now() };
    }
    const url = new URL(known.place?.url ?? "");
    const document = await fetchDocument(out, url, () => false);
    const keys = publicKeys(document?.["keys"], { host: url.host, tenant: source.tenant });
    // The same object while nothing is new, so that what was made of it stays good.
    if (JSON.stringify(keys) !== JSON.stringify(known.set?.keys)) known.set = { keys };
    known.readAt = clock.now();
  }

  /** One request however many wait. False: there was no answer that can be used. */
  function look(source: KeySource, known: Known): Promise<boolean> {
    return looks.join(known, { begin: () => lookOnce(source, known), withinMs: LOOK_MS + MARGIN_MS });
  }

  async function lookOnce(source: KeySource, known: Known): Promise<boolean> {
    const signal = AbortSignal.timeout(LOOK_MS);
    const outcome = await outcomeOf(signal, () => read({ egress, userAgent, signal }, source, known));
    if (outcome.ok) return true;
    known.failedAt = clock.now();
    // Perhaps the keys have moved: the metadata are read again, too.
    known.place = null;
    const reason = reasonOf(outcome.failure);
    log("warn", "issuer_keys_unavailable", { issuer: source.issuer, reason, stale: known.set !== null });
    return false;
  }

  return {
    of: async (source) => {
      const known = knownOf(source);
      if (known.set && clock.now() - known.readAt < FRESH_MS) return known.set;
      // An issuer that is away is not waited for by every call.
      if (looks.has(known) || clock.now() - known.failedAt >= PAUSE_MS) await look(source, known);
      if (known.set && clock.now() - known.readAt < FRESH_MS + STALE_MS) return known.set;
      throw unavailable();
    },
    again: async (source, seen) => {
      const known = knownOf(source);
      if (known.set && known.set !== seen) return known.set;
      const isRecent = clock.now() - known.again.at < AGAIN_MS;
      if (isRecent && !looks.has(known)) {
        if (!known.again.ok) throw unavailable();
        return seen;
      }
      if (!isRecent) known.again = { at: clock.now(), ok: true };
      const { again } = known;
      again.ok = await look(source, known);
      if (!again.ok || !known.set) throw unavailable();
      return known.set;
    },
  };
}

const NEVER = -Infinity;
const FRESH_MS = 10 * 60_000;
/** How long keys serve on beyond that while their issuer is away. */
const STALE_MS = 60 * 60_000;
const AGAIN_MS = 30_000;
const PAUSE_MS = 10_000;
/** For metadata and keys together: callers wait. */
const LOOK_MS = 8_000;
/** By then a look that was too late has said so. */
const MARGIN_MS = 2_000;
const MAX_ISSUERS = 1_000;
const MAX_KEYS = 100;

/** Told to strangers: it does not name the issuer. */
const unavailable = () => new BrokerError("unavailable", { what: "the keys of the token's issuer" });

/** The public members of the keys that tokens can be signed with; certificates and URLs beside them are left out. */
function publicKeys(
  given: Json | undefined,
  { host, tenant }: { host: string; tenant: string | null },
): JsonObject[] {
  if (!Array.isArray(given)) throw broken(`The key set of ${host} has no keys.`);
  if (given.length > MAX_KEYS) throw broken(`The key set of ${host} has more than ${MAX_KEYS} keys.`);
  return given
    .filter(isJsonObject)
    .filter((key) => isUsable(key, tenant))
    .map(publicMembers);
}

function isUsable(key: JsonObject, tenant: string | null): boolean {
  const { kty, use, n, issuer } = key;
  if (typeof kty !== "string" || !KINDS.has(kty) || (use !== undefined && use !== "sig")) return false;
  // A signature by a key of giant length takes seconds to check.
  if (typeof n === "string" && n.length > MAX_MODULUS_CHARS) return false;
  // Entra says whose tokens a key signs: all tenants' (`{tenantid}`), or those of one, which may be another.
  const named = typeof issuer === "string" ? GUID.exec(issuer)?.[0] : undefined;
  return tenant === null || named === undefined || named === tenant;
}

function publicMembers(key: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(key).filter(([name]) => MEMBERS.has(name)));
}

const KINDS = new Set(["RSA", "EC", "OKP"]);
const MEMBERS = new Set(["kty", "kid", "use", "key_ops", "alg", "n", "e", "crv", "x", "y"]);
/** 8192 bits in base64url. */
const MAX_MODULUS_CHARS = 1_366;
const GUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

function reasonOf(failure: OAuthFailure): string {
  return "message" in failure ? failure.message : failure.kind;
}
