import { calculateJwkThumbprint, type CryptoKey, exportJWK, generateKeyPair, importJWK } from "jose";
import { BrokerError, isRefusal } from "../core/errors.ts";
import type { Clock, Log, Sealer } from "../core/ports.ts";
import { createSharedWork } from "../core/shared-work.ts";
import {
  type SigningKey,
  signingKeyAad,
  type SigningKeys,
  type SigningPurpose,
} from "../core/signing-keys.ts";
import type { PublicJwk } from "../core/workload.ts";

/** An issuer's keys. Rotated by time alone; every replica comes to the same ones by the store. */
export type SigningRing = {
  /** The key that signs now. Throws `unavailable`. */
  current: () => Promise<{ kid: string; key: CryptoKey }>;
  /** The public keys, in order. Makes the first key where there is none. Throws `unavailable`. */
  published: () => Promise<PublicJwk[]>;
  /** Makes the successor when it is time for it, and deletes what has ended. The first key is made at its first use. */
  tend: () => Promise<void>;
};

/** A key signs for so long. */
export const ROTATION_MS = 30 * 24 * 60 * 60 * 1000;
/** A key is published for at least so long before it signs: those who check keep keys for hours. */
export const PUBLISHED_AHEAD_MS = 24 * 60 * 60 * 1000;
/** A key is published after its last token has ended: for replicas that changed late, and for clocks that go after ours. */
export const KEPT_MARGIN_MS = 60 * 60 * 1000;
/** Rows are believed for so long. Far shorter than what is above, so that whoever is behind still signs with a published key. */
export const ROWS_KEPT_MS = 5 * 60 * 1000;
/** Two reads and a write of a slow database, and the making of a key. */
const READ_MS = 3 * 60 * 1000;

// What cloud federations take, all of them: Azure, AWS and Google name RS256 first, and some know nothing else.
const ALGORITHM = "RS256";
const MODULUS_BITS = 2048;

type OpenKey = { row: SigningKey; key: CryptoKey; publicJwk: PublicJwk };

export function createSigningRing(options: {
  purpose: SigningPurpose;
  /** How long its tokens last. */
  tokenMs: number;
  store: SigningKeys;
  sealer: Sealer;
  clock: Clock;
  log: Log;
}): SigningRing {
  const { purpose, tokenMs, store, sealer, clock, log } = options;
  const keptMs = tokenMs + KEPT_MARGIN_MS;
  const read = createSharedWork<OpenKey[]>({
    max: 1,
    clock,
    withinMs: READ_MS,
    keepMs: () => ROWS_KEPT_MS,
  });
  const keys = () =>
    read(purpose, async () => Promise.all((await rowsWithFirst()).map((row) => open(row, { sealer, log }))));

  async function rowsWithFirst(): Promise<SigningKey[]> {
    const rows = await store.list(purpose);
    if (rows.length > 0) return rows;
    await make({ seq: 1, notBefore: clock.now() });
    // Ours, or that of whoever was faster.
    return store.list(purpose);
  }

  async function make({ seq, notBefore }: Pick<SigningKey, "seq" | "notBefore">): Promise<void> {
    const { kid, privateJwk } = await makePair();
    const sealed = await sealer.seal(privateJwk, signingKeyAad({ purpose, seq, kid }));
    const row = { purpose, seq, kid, sealed, createdAt: clock.now(), notBefore };
    const isKept = await store.insert(row);
    if (isKept) log("info", "signing_key_made", { purpose, seq, kid, notBefore: new Date(notBefore) });
  }

  return {
    current: async () => {
      const now = clock.now();
      const [first, ...others] = await keys();
      if (!first) throw new Error("an issuer without a key");
      // None yet: another replica made the first one, and its clock goes before ours.
      const { row, key } = others.findLast(({ row: { notBefore } }) => notBefore <= now) ?? first;
      return { kid: row.kid, key };
    },

    published: async () => {
      const all = await keys();
      const endedAt = clock.now() - keptMs;
      const isOver = (at: number) => (all[at + 1]?.row.notBefore ?? Infinity) <= endedAt;
      return all.flatMap(({ publicJwk }, at) => (isOver(at) ? [] : [publicJwk]));
    },

    tend: async () => {
      const next = successorOf(await store.list(purpose), clock.now());
      if (next) await make(next);
      const ended = await store.sweep(purpose, clock.now() - keptMs);
      if (ended.length > 0) log("info", "signing_keys_ended", { purpose, kids: ended });
    },
  };
}

/** The key to be made now. Null: none. One that is late is published as long as any other; the old one signs meanwhile. */
function successorOf(rows: SigningKey[], now: number): Pick<SigningKey, "seq" | "notBefore"> | null {
  const newest = rows.at(-1);
  if (!newest) return null;
  const dueAt = newest.notBefore + ROTATION_MS;
  if (now < dueAt - PUBLISHED_AHEAD_MS) return null;
  return { seq: newest.seq + 1, notBefore: Math.max(dueAt, now + PUBLISHED_AHEAD_MS) };
}

async function makePair(): Promise<{ kid: string; privateJwk: string }> {
  const pair = await generateKeyPair(ALGORITHM, { modulusLength: MODULUS_BITS, extractable: true });
  const jwk = await exportJWK(pair.privateKey);
  return { kid: await calculateJwkThumbprint(jwk), privateJwk: JSON.stringify(jwk) };
}

/**
 * A key is what its box says, in its place: a row that was copied, or written by somebody who holds no sealing key, is
 * neither used nor published. Throws `unavailable`, which names the key and nothing of what it holds.
 */
async function open(row: SigningKey, { sealer, log }: { sealer: Sealer; log: Log }): Promise<OpenKey> {
  const { purpose, seq, kid } = row;
  try {
    // Written by `make` and sealed: the shape is our own.
    const jwk = JSON.parse(await sealer.open(row.sealed, signingKeyAad(row))) as { n: string; e: string };
    const publicJwk: PublicJwk = { kty: "RSA", n: jwk.n, e: jwk.e, kid, alg: ALGORITHM, use: "sig" };
    const key = await importJWK({ ...jwk, kty: "RSA" }, ALGORITHM, { extractable: false });
    if (key instanceof Uint8Array) throw new Error("a signing key that is a secret");
    return { row, key, publicJwk };
  } catch (error) {
    if (!isRefusal(error, "unavailable")) throw error;
    log("error", "signing_key_unusable", { purpose, seq, kid, why: error.details.what });
    const what = `the ${purpose} issuer's signing key ${seq} (${error.details.what})`;
    throw new BrokerError("unavailable", { what }, { cause: error });
  }
}
