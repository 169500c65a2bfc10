import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { putFile } from "../../src/secrets/files.node.ts";
import { readKeyringFile } from "../../src/secrets/keyring.node.ts";
import { REFRESH_MS, watchKeyringFile } from "../../src/secrets/keyring-file.node.ts";
import { createSealer } from "../../src/secrets/seal.ts";
import { createSigner } from "../../src/secrets/signer.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const suite = createNodeCrypto();
const line = (id: string) => `${id}:${Buffer.from(suite.randomBytes(32)).toString("base64")}\n`;

let folder: string;
let path: string;
let clock: ReturnType<typeof scriptedClock>;
let logs: { event: string; fields: Record<string, unknown> }[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-keyring-"));
  path = join(folder, "keyring");
  clock = scriptedClock();
  logs = [];
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const put = (...lines: string[]) => putFile(path, lines.join(""), 0o600);
async function replica() {
  const log = (_: string, event: string, fields = {}) => logs.push({ event, fields });
  const keys = await watchKeyringFile(path, await readKeyringFile(path), { clock, log });
  const ids = async () => (await keys.current()).map(({ id }) => id);
  return { keys, ids, sealer: createSealer({ keyring: keys, suite }), signer: createSigner(keys) };
}

test("a key that is put into the file seals within half a minute, without a restart", async () => {
  const old = line("k1");
  await put(old);
  const { keys, ids, sealer } = await replica();
  const watching = keys.watch();
  const before = await sealer.seal("text", "here");
  await put(line("k2"), old);
  clock.advance(REFRESH_MS);
  await expect.poll(ids).toEqual(["k2", "k1"]);
  const box = await sealer.seal("text", "here");
  expect(Buffer.from(box.subarray(2, 4)).toString()).toBe("k2");
  expect(await sealer.open(before, "here")).toBe("text");
  expect(logs).toEqual([{ event: "keyring_changed", fields: { keyIds: ["k2", "k1"] } }]);
  await watching.stop();
});

test("what one replica seals under a new key, another opens at once, and a proof of it is ours", async () => {
  const old = line("k1");
  await put(old);
  const late = await replica();
  await put(line("k2"), old);
  const early = await replica();
  const box = await early.sealer.seal("text", "here");
  const mac = await early.signer.sign("links", "one");
  expect(await late.sealer.open(box, "here")).toBe("text");
  expect(await late.signer.isOurs("links", "one", mac)).toBe(true);
});

test("a key that was taken out opens nothing any more, and the refusal names it", async () => {
  const old = line("k1");
  const next = line("k2");
  await put(next, old);
  const { keys, ids, sealer } = await replica();
  const watching = keys.watch();
  await put(old);
  const box = await (await replica()).sealer.seal("text", "here");
  await put(next);
  clock.advance(REFRESH_MS);
  await expect.poll(ids).toEqual(["k2"]);
  await expect(sealer.open(box, "here")).rejects.toMatchObject({
    code: "unavailable",
    details: { what: expect.stringContaining('the keyring has no key "k1"') },
  });
  await watching.stop();
});

test.each([
  ["is gone", () => rm(path), "cannot be read (ENOENT)"],
  ["is empty", () => writeFile(path, ""), "holds no key"],
  ["holds half a key", () => writeFile(path, "k2:c2hvcnQ="), "instead of 32"],
  ["holds another key under an old name", () => put(line("k1")), "is another one than before"],
])("while the file %s, what was read last serves on, and the log says why", async (_, spoil, why) => {
  const old = line("k1");
  await put(old);
  const { keys, ids, sealer } = await replica();
  const watching = keys.watch();
  const box = await sealer.seal("text", "here");
  await spoil();
  clock.advance(REFRESH_MS);
  await expect.poll(() => logs.map(({ event }) => event)).toEqual(["keyring_unreachable"]);
  expect(String(logs[0]?.fields["why"])).toContain(why);
  expect(JSON.stringify(logs)).not.toContain(old.slice(3, 20));
  clock.advance(100 * 24 * 60 * 60_000);
  expect(await ids()).toEqual(["k1"]);
  expect(await sealer.open(box, "here")).toBe("text");
  await put(old);
  clock.advance(REFRESH_MS);
  await expect.poll(() => logs.map(({ event }) => event)).toContain("keyring_reachable");
  await watching.stop();
});
