import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  exportJWK,
  generateKeyPair,
  jwtVerify,
  SignJWT,
} from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { signingKeyAad, type SigningKey, type SigningKeys } from "../../src/core/signing-keys.ts";
import type { Store } from "../../src/core/storage.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { createWebCrypto } from "../../src/secrets/crypto.web.ts";
import { parseKeyring } from "../../src/secrets/keyring.ts";
import { createSealer } from "../../src/secrets/seal.ts";
import {
  createSigningRing,
  KEPT_MARGIN_MS,
  PUBLISHED_AHEAD_MS,
  ROTATION_MS,
  ROWS_KEPT_MS,
  type SigningRing,
} from "../../src/secrets/signing-keys.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { migrations } from "../store/engines.ts";

const TOKEN_MS = 10 * 60 * 1000;
const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
const suite = createNodeCrypto();
const keyring = parseKeyring(`k1:${suite.randomText(32)}`);
const sealer = createSealer({ keyring, suite });

let folder: string;
let stores: Store[];
let now: number;
let logs: { event: string; fields: Record<string, unknown> }[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "consentry-ring-"));
  stores = [];
  logs = [];
  now = Date.UTC(2026, 0, 1);
});
afterEach(async () => {
  await Promise.all(stores.map((store) => store.close()));
  rmSync(folder, { recursive: true });
});

function openStore(): Store {
  const store = openSqlite(join(folder, "keys.db"), { migrations: migrations.sqlite });
  stores.push(store);
  return store;
}

/** One replica's ring. Its clock goes `aheadMs` before everybody else's. */
function ringOn(store: SigningKeys, more: { aheadMs?: number; sealer?: typeof sealer } = {}): SigningRing {
  const clock = { now: () => now + (more.aheadMs ?? 0), sleep: () => new Promise<void>(() => {}) };
  const log = (_: string, event: string, fields: Record<string, unknown> = {}) =>
    void logs.push({ event, fields });
  return createSigningRing({ purpose: "workload", tokenMs: TOKEN_MS, store, sealer, clock, log, ...more });
}

const kidsOf = async (ring: SigningRing) => (await ring.published()).map(({ kid }) => kid);
const signerOf = async (ring: SigningRing) => (await ring.current()).kid;
const sign = async (ring: SigningRing) => {
  const { kid, key } = await ring.current();
  const exp = (now + TOKEN_MS) / 1000;
  return new SignJWT({}).setProtectedHeader({ alg: "RS256", kid }).setExpirationTime(exp).sign(key);
};
/** A server that has just read the keys, and its check of a token at this time. */
const serverOf = async (ring: SigningRing) => {
  const keys = createLocalJWKSet({ keys: await ring.published() });
  return (token: string) => jwtVerify(token, keys, { currentDate: new Date(now) });
};

describe("a ring", () => {
  test("makes its first key when it is first used, and not before", async () => {
    const { signingKeys } = openStore();
    const ring = ringOn(signingKeys);
    await ring.tend();
    expect(await signingKeys.list("workload")).toEqual([]);
    const kid = await signerOf(ring);
    expect(await kidsOf(ring)).toEqual([kid]);
    expect(await signingKeys.list("workload")).toMatchObject([{ seq: 1, kid, notBefore: now }]);
    expect(await signerOf(ringOn(signingKeys))).toBe(kid);
    expect(logs).toMatchObject([{ event: "signing_key_made", fields: { seq: 1, kid } }]);
  });

  test("publishes RSA keys of 2048 bits by their thumbprints, and nothing that is private", async () => {
    const ring = ringOn(openStore().signingKeys);
    const [jwk] = await ring.published();
    if (!jwk) throw new Error("no key");
    expect(Object.keys(jwk).toSorted()).toEqual(["alg", "e", "kid", "kty", "n", "use"]);
    expect(Buffer.from(jwk.n, "base64url")).toHaveLength(256);
    expect(jwk.kid).toBe(await calculateJwkThumbprint(jwk));
    expect((await ring.current()).key.extractable).toBe(false);
  });

  test("makes keys that another runtime's cryptography opens", async () => {
    const { signingKeys } = openStore();
    const kid = await signerOf(ringOn(signingKeys));
    const web = createSealer({ keyring, suite: createWebCrypto() });
    expect(await signerOf(ringOn(signingKeys, { sealer: web }))).toBe(kid);
  });

  test("rotates: the next key is known a day before it signs, the old one until its last token has ended", async () => {
    const ring = ringOn(openStore().signingKeys);
    const first = await signerOf(ring);
    now += ROTATION_MS - PUBLISHED_AHEAD_MS - 1;
    await ring.tend();
    expect(await kidsOf(ring)).toEqual([first]);
    now += 1;
    await ring.tend();
    now += ROWS_KEPT_MS;
    const [, second] = await kidsOf(ring);
    expect(await kidsOf(ring)).toEqual([first, second]);
    expect(await signerOf(ring)).toBe(first);

    now += PUBLISHED_AHEAD_MS - ROWS_KEPT_MS - 1;
    const last = await sign(ring);
    now += 1;
    expect(await signerOf(ring)).toBe(second);
    now += TOKEN_MS - 2_000;
    await ring.tend();
    await (
      await serverOf(ring)
    )(last);

    now += 2_000 + KEPT_MARGIN_MS - 1;
    expect(await kidsOf(ring)).toEqual([first, second]);
    now += 1;
    // Published no more, whether somebody has swept or not.
    expect(await kidsOf(ring)).toEqual([second]);
    await ring.tend();
    expect(logs.at(-1)).toEqual({
      event: "signing_keys_ended",
      fields: { purpose: "workload", kids: [first] },
    });
    await ring.tend();
    expect(logs.filter(({ event }) => event === "signing_keys_ended")).toHaveLength(1);
  });

  test("has no gap for a server that keeps keys for twelve hours, in a hundred days", async () => {
    const ring = ringOn(openStore().signingKeys);
    const signers = new Set<string>();
    let check = await serverOf(ring);
    for (let hour = 0; hour < 100 * 24; hour += 3) {
      await ring.tend();
      if (hour % 12 === 0) check = await serverOf(ring);
      signers.add(await signerOf(ring));
      await check(await sign(ring));
      now += 3 * HOUR_MS;
    }
    expect(signers.size).toBe(4);
    expect((await ring.published()).length).toBeLessThan(3);
  });

  test("that was away for months signs with its old key until the next was published for a day", async () => {
    const ring = ringOn(openStore().signingKeys);
    const first = await signerOf(ring);
    now += 5 * ROTATION_MS;
    const check = await serverOf(ring);
    await ring.tend();
    now += ROWS_KEPT_MS;
    expect(await kidsOf(ring)).toHaveLength(2);
    await check(await sign(ring));
    now += PUBLISHED_AHEAD_MS;
    expect(await signerOf(ring)).not.toBe(first);
    await ring.tend();
    expect(await kidsOf(ring)).toHaveLength(2);
  });
});

describe("replicas", () => {
  test("that use the first key at once make one", async () => {
    const rings = Array.from({ length: 6 }, () => ringOn(openStore().signingKeys));
    const found = await Promise.all(rings.flatMap((ring) => [signerOf(ring), kidsOf(ring)]));
    expect(new Set(found.flat()).size).toBe(1);
    expect(logs.filter(({ event }) => event === "signing_key_made")).toHaveLength(1);
  });

  test("that rotate at once make one successor, and all publish it", async () => {
    const rings = Array.from({ length: 6 }, () => ringOn(openStore().signingKeys));
    await Promise.all(rings.map(signerOf));
    now += ROTATION_MS;
    await Promise.all(rings.map((ring) => ring.tend()));
    now += ROWS_KEPT_MS;
    const published = await Promise.all(rings.map(kidsOf));
    expect(new Set(published.flat()).size).toBe(2);
    expect(await openStore().signingKeys.list("workload")).toMatchObject([{ seq: 1 }, { seq: 2 }]);
    now += PUBLISHED_AHEAD_MS + TOKEN_MS + KEPT_MARGIN_MS;
    await Promise.all(rings.map((ring) => ring.tend()));
    expect(logs.filter(({ event }) => event === "signing_keys_ended")).toHaveLength(1);
  });

  test("of which one has not read for as long as it may still sign with what the other publishes", async () => {
    const [ahead, behind] = [ringOn(openStore().signingKeys), ringOn(openStore().signingKeys)];
    await signerOf(ahead);
    now += ROTATION_MS - PUBLISHED_AHEAD_MS - 1;
    await signerOf(behind);
    now += 1;
    // The successor is made just after the other has read; it finds out in time, whatever it last knew.
    await ahead.tend();
    for (const waitMs of [ROWS_KEPT_MS - 2, PUBLISHED_AHEAD_MS - ROWS_KEPT_MS, ROWS_KEPT_MS]) {
      now += waitMs;
      await (
        await serverOf(ahead)
      )(await sign(behind));
      await (
        await serverOf(behind)
      )(await sign(ahead));
    }
    expect(await signerOf(behind)).toBe(await signerOf(ahead));
  });

  test("whose clocks differ: a first key that is not yet to sign signs", async () => {
    const early = await signerOf(ringOn(openStore().signingKeys, { aheadMs: 60_000 }));
    expect(await signerOf(ringOn(openStore().signingKeys))).toBe(early);
  });
});

describe("a crash", () => {
  test("before the row is there leaves nothing, and the next use makes the key", async () => {
    const { signingKeys } = openStore();
    let calls = 0;
    const dying = ringOn({
      ...signingKeys,
      insert: async (key) => {
        if (calls++ === 0) throw new Error("the process died");
        return signingKeys.insert(key);
      },
    });
    await expect(dying.current()).rejects.toThrow("died");
    expect(await signingKeys.list("workload")).toEqual([]);
    expect(await kidsOf(dying)).toHaveLength(1);
  });
});

describe("a row fails closed", () => {
  const unusable = (why: string) =>
    expect.objectContaining({
      code: "unavailable",
      details: { what: expect.stringMatching(new RegExp(`workload issuer's signing key \\d+ \\(.*${why}`)) },
    });
  /** What the store gives, as somebody who may write to it would have it. */
  const rewritten = (store: SigningKeys, edit: (row: SigningKey) => SigningKey[]): SigningKeys => ({
    ...store,
    list: async (purpose) => (await store.list(purpose)).flatMap(edit),
  });

  test.each<[string, (row: SigningKey) => SigningKey[]]>([
    ["copied to another number", (row) => [row, { ...row, seq: 2 }]],
    ["with another key's name", (row) => [{ ...row, kid: "kid-of-another" }]],
    [
      "of damaged bytes",
      (row) => [{ ...row, sealed: row.sealed.map((byte, at) => (at === 40 ? byte ^ 1 : byte)) }],
    ],
    [
      "that was sealed for something else",
      (row) => [row, { ...row, seq: 2, kid: "x", sealed: new Uint8Array(60) }],
    ],
  ])("%s: nothing is signed or published", async (_, edit) => {
    const { signingKeys } = openStore();
    await signerOf(ringOn(signingKeys));
    const ring = ringOn(rewritten(signingKeys, edit));
    for (const use of [ring.current, ring.published]) await expect(use()).rejects.toThrow(unusable("opened"));
    expect(logs.at(-1)).toMatchObject({ event: "signing_key_unusable", fields: { purpose: "workload" } });
  });

  test("whose sealing key is missing: the error names that key, and no other key is made", async () => {
    const { signingKeys } = openStore();
    await signerOf(ringOn(signingKeys));
    const other = createSealer({ keyring: parseKeyring(`k2:${suite.randomText(32)}`), suite });
    const ring = ringOn(signingKeys, { sealer: other });
    for (const use of [ring.current, ring.published]) {
      await expect(use()).rejects.toThrow(unusable('the keyring has no key "k1"'));
    }
    await ring.tend();
    expect(await signingKeys.list("workload")).toHaveLength(1);
    // With the key back, all is as it was.
    expect(await kidsOf(ringOn(signingKeys))).toHaveLength(1);
  });

  test("that a writer of the database made up: its public key is published by nobody", async () => {
    const { signingKeys } = openStore();
    await signerOf(ringOn(signingKeys));
    const pair = await generateKeyPair("RS256", { extractable: true });
    const jwk = await exportJWK(pair.privateKey);
    const forged = { purpose: "workload" as const, seq: 2, kid: await calculateJwkThumbprint(jwk) };
    const theirs = createSealer({ keyring: parseKeyring(`k1:${suite.randomText(32)}`), suite });
    const sealed = await theirs.seal(JSON.stringify(jwk), signingKeyAad(forged));
    await signingKeys.insert({ ...forged, sealed, createdAt: now, notBefore: now });
    await expect(ringOn(signingKeys).published()).rejects.toThrow(unusable("opened"));
  });
});

test("no row, log or error holds a private key", async () => {
  const { signingKeys } = openStore();
  const ring = ringOn(signingKeys);
  await ring.current();
  const [row] = await signingKeys.list("workload");
  if (!row) throw new Error("no row");
  const { d, p } = JSON.parse(await sealer.open(row.sealed, signingKeyAad(row)));
  for (const secret of [d, p]) {
    expect(Buffer.from(row.sealed).includes(secret)).toBe(false);
    expect(JSON.stringify([logs, await ring.published()])).not.toContain(secret);
  }
});

test("a ring's times leave a day and more for whoever is behind", () => {
  expect(ROTATION_MS).toBe(30 * DAY_MS);
  expect(PUBLISHED_AHEAD_MS).toBe(DAY_MS);
  expect(ROWS_KEPT_MS).toBeLessThan(KEPT_MARGIN_MS);
});
