// What https is served with: a certificate of our own making (made once, agreed on by all, renewed whole), or files.
import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseConfig } from "../src/config.ts";
import { loadTls } from "../src/tls.ts";
import { makeCertificates } from "../src/tls-certificate.ts";
import { ensureDevelopmentTls } from "../src/tls-development.ts";

const NAMES = ["localhost", "127.0.0.1", "::1"];
const DAY_MS = 24 * 60 * 60 * 1000;
const now = Date.now();
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-tls-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const ensure = (wanted: { names?: string[]; at?: number } = {}) =>
  ensureDevelopmentTls(folder, { names: wanted.names ?? NAMES, now: wanted.at ?? now });
const ca = () => readFile(join(folder, "dev-ca.pem"), "utf8");
const isTrusted = async ({ cert }: { cert: string }) =>
  new X509Certificate(cert).verify(new X509Certificate(await ca()).publicKey);

test("it is a server's certificate for these names, signed by a CA for nothing else", async () => {
  const { cert, key, caPath, made } = await ensure({ names: [...NAMES, "app.localhost", "127.9.9.9"] });
  const leaf = new X509Certificate(cert);
  const authority = new X509Certificate(await readFile(caPath));
  expect(made).toBe("first_start");
  expect(leaf.subjectAltName).toBe(
    "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:app.localhost, IP Address:127.9.9.9",
  );
  expect([authority.ca, leaf.ca]).toEqual([true, false]);
  expect(leaf.checkIssued(authority) && leaf.verify(authority.publicKey)).toBe(true);
  expect(leaf.checkPrivateKey(createPrivateKey(key))).toBe(true);
  const days = (Date.parse(leaf.validTo) - Date.parse(leaf.validFrom)) / DAY_MS;
  expect(days).toBeLessThan(825);
});

test("the CA's private key is nowhere, the server's is its owner's alone", async () => {
  await ensure();
  const authority = new X509Certificate(await ca());
  const keys: [name: string, isTheCas: boolean][] = [];
  for (const name of await readdir(folder)) {
    const text = await readFile(join(folder, name), "utf8");
    for (const [key] of text.matchAll(/-----BEGIN [^-]*PRIVATE KEY-----[^-]+-----END [^-]+-----/g))
      keys.push([name, authority.checkPrivateKey(createPrivateKey(key))]);
  }
  expect(keys).toEqual([["dev-tls.pem", false]]);
  expect((await stat(join(folder, "dev-tls.pem"))).mode & 0o777).toBe(0o600);
});

test("a later start keeps it, and a lost dev-ca.pem is written again", async () => {
  const first = await ensure();
  const before = await ca();
  await rm(join(folder, "dev-ca.pem"));
  expect(await ensure({ at: now + 700 * DAY_MS })).toEqual({ ...first, made: null });
  expect(await ca()).toBe(before);
  expect(await ensure({ names: ["localhost"] })).toMatchObject({ made: null });
});

test("of many that start at once all serve the same one", async () => {
  const all = await Promise.all(Array.from({ length: 8 }, () => ensure()));
  expect(new Set(all.map(({ cert }) => cert)).size).toBe(1);
  expect(all.filter(({ made }) => made !== null)).toHaveLength(1);
  expect(await Promise.all(all.map(isTrusted))).not.toContain(false);
  expect((await readdir(folder)).toSorted()).toEqual(["dev-ca.pem", "dev-tls.pem"]);
});

test.each([
  { because: "near_its_end", wanted: { at: now + 800 * DAY_MS } },
  { because: "near_its_end", wanted: { at: now - 2 * DAY_MS } },
  { because: "names_changed", wanted: { names: [...NAMES, "app.localhost"] } },
])("$because: many at once agree on a new one and a new CA ($wanted)", async ({ because, wanted }) => {
  const old = await ensure();
  const before = await ca();
  const all = await Promise.all(Array.from({ length: 8 }, () => ensure(wanted)));
  expect(new Set(all.map(({ cert }) => cert)).size).toBe(1);
  expect(all[0]?.cert).not.toBe(old.cert);
  expect(all.filter(({ made }) => made !== null).map(({ made }) => made)).toEqual([because]);
  expect(await ca()).not.toBe(before);
  expect(await Promise.all(all.map(isTrusted))).not.toContain(false);
  expect(await ensure(wanted)).toMatchObject({ made: null, cert: all[0]?.cert });
});

test("one that is late to a renewal brings no certificate of its own", async () => {
  await ensure();
  const stale = await readFile(join(folder, "dev-tls.pem"), "utf8");
  const wanted = { at: now + 800 * DAY_MS };
  const renewed = await ensure(wanted);
  // As the late one saw it: the stale file is still there.
  await writeFile(join(folder, "dev-tls.pem"), stale);
  expect(await ensure(wanted)).toEqual({ ...renewed, made: null });
});

test("of renewals no more than the last leaves a file", async () => {
  for (const at of [0, 800, 1600, 2400]) await ensure({ at: now + at * DAY_MS });
  expect(await readdir(folder)).toHaveLength(3);
});

test.each([
  ["cut off", (text: string) => text.slice(0, -40)],
  ["empty", () => ""],
  ["of two halves", (text: string) => text.replace(/-----BEGIN PRIVATE[^]*/, "")],
])("a file that is %s is made anew", async (_, spoil) => {
  await ensure();
  const path = join(folder, "dev-tls.pem");
  await writeFile(path, spoil(await readFile(path, "utf8")));
  const made = await ensure();
  expect(made.made).toBe("damaged");
  expect(await isTrusted(made)).toBe(true);
});

test("a file that others may read is refused", async () => {
  await ensure();
  await chmod(join(folder, "dev-tls.pem"), 0o644);
  await expect(ensure()).rejects.toThrow("chmod 600");
});

test("a folder that cannot be one is named", async () => {
  await writeFile(join(folder, "file"), "");
  const made = ensureDevelopmentTls(join(folder, "file"), { names: NAMES, now });
  await expect(made).rejects.toThrow(/CONSENTRY_TLS .*dev-tls\.pem cannot be read or made \(ENOTDIR\)/);
});

const made = (days: { from: number; until: number } = { from: -1, until: 1 }) =>
  makeCertificates({
    names: ["127.0.0.1"],
    from: now + days.from * DAY_MS,
    until: now + days.until * DAY_MS,
  });
const passphrase = () =>
  generateKeyPairSync("ec", {
    namedCurve: "P-256",
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" },
  }).privateKey;

test.each([
  [
    "that do not belong together",
    async () => ({ ...(await made()), key: (await made()).key }),
    "is not the key of",
  ],
  ["of yesterday", () => made({ from: -3, until: -1 }), "ended on"],
  ["of tomorrow", () => made({ from: 1, until: 2 }), "begins on"],
  ["without a certificate", async () => ({ ...(await made()), cert: "canary" }), "holds no certificate"],
  ["without a key", async () => ({ ...(await made()), key: "canary" }), "holds no private key"],
  ["with a passphrase", async () => ({ ...(await made()), key: passphrase() }), "give a key without"],
])("files %s are refused by name", async (_, make, why) => {
  const { cert, key } = await make();
  const paths = [join(folder, "cert.pem"), join(folder, "key.pem")];
  await Promise.all([writeFile(paths[0] ?? "", cert), writeFile(paths[1] ?? "", key)]);
  const config = parseConfig({ CONSENTRY_TLS: paths.join(",") });
  const message = await loadTls(config, { folder, now, log: () => {} }).then(
    () => "",
    (error: Error) => error.message,
  );
  expect(message).toContain(why);
  expect(message).toMatch(/CONSENTRY_TLS .*(cert|key)\.pem/);
  expect(message).not.toContain("canary");
});

test("files that are not there are named", async () => {
  const config = parseConfig({ CONSENTRY_TLS: `${folder}/no.pem,${folder}/key.pem` });
  const loading = loadTls(config, { folder, now, log: () => {} });
  await expect(loading).rejects.toThrow("no.pem cannot be read (ENOENT)");
});
