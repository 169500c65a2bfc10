import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { isRefusal } from "../../src/core/errors.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { KeyringError } from "../../src/secrets/keyring.ts";
import { openVaultKeyring } from "../../src/secrets/keyring-vault.ts";
import { createSealer } from "../../src/secrets/seal.ts";
import { createSigner } from "../../src/secrets/signer.ts";
import { failed } from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const suite = createNodeCrypto();
const key = () => Buffer.from(suite.randomBytes(32)).toString("base64");

let azure: AzureHere;
let clock: ReturnType<typeof scriptedClock>;
let logs: { event: string; fields: Record<string, unknown> }[];

beforeAll(async () => {
  azure = await startAzure();
});
afterAll(() => azure.stop());
beforeEach(() => {
  clock = scriptedClock();
  logs = [];
  azure.vault.secrets.clear();
  azure.vault.asked.length = 0;
  azure.vault.knobs.answer = () => null;
});

const put = (value: string, more = {}) => azure.vault.put("keyring", value, more);
/** A replica: it reads the vault for itself. */
async function replica(timeoutMs?: number) {
  const keys = await openVaultKeyring({
    secret: { vault: azure.vault.url, name: "keyring", version: null },
    vaults: azure.vaults(clock, timeoutMs),
    clock,
    log: (_, event, fields = {}) => logs.push({ event, fields }),
  });
  const ids = async () => (await keys.current()).map(({ id }) => id);
  return { keys, ids, sealer: createSealer({ keyring: keys, suite }), signer: createSigner(keys) };
}
const refusal = (why: string) =>
  expect.objectContaining({
    code: "unavailable",
    details: expect.objectContaining({ what: expect.stringContaining(why) }),
  });
const events = () => logs.map(({ event }) => event);
const disable = (version: string) => {
  for (const one of azure.vault.secrets.get("keyring") ?? [])
    if (one.version === version) one.enabled = false;
};

describe("the first reading", () => {
  test("gives the keys of all usable versions, the newest first, each called as its version", async () => {
    const old = put(key());
    disable(put(key()));
    const current = put(` ${key()}\n`);
    const { ids } = await replica();
    expect(await ids()).toEqual([current, old]);
  });

  test("takes a list with ids in a version as well, and a key that a later list repeats once", async () => {
    const k1 = `k1:${key()}`;
    put(k1);
    put(`k2:${key()},${k1}`);
    const version = put(key());
    expect(await (await replica()).ids()).toEqual([version, "k2", "k1"]);
  });

  test.each([
    ["is empty", " "],
    ["has 5 bytes instead of 32", "c2hvcnQ="],
    ["is neither 32 bytes in base64", "hunter2!"],
    ["holds a placeholder", Buffer.alloc(32, 7).toString("base64")],
    ["holds a placeholder", `k1:${Buffer.alloc(32, 7).toString("base64")}`],
    ["entry 1 (k1) has 5 bytes", "k1:c2hvcnQ="],
    ["entry 1 has an id", `k1 k:${"A".repeat(43)}`.replace(" ", "!")],
  ])("of a version that %s is refused by its name, without what it holds", async (why, value) => {
    const version = put(value);
    const error: unknown = await replica().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(KeyringError);
    expect(String(error)).toContain(version);
    expect(String(error)).toContain(why);
    expect(value.trim() !== "" && String(error).includes(value)).toBe(false);
  });

  test("of two keys of one name is refused, and so is a secret without a usable version", async () => {
    put(`k1:${key()}`);
    put(`k1:${key()}`);
    await expect(replica()).rejects.toThrow("the id k1 occurs twice");
    azure.vault.secrets.set("keyring", []);
    await expect(replica()).rejects.toThrow("no version that may be used now");
  });

  test("must succeed, and says what is missing", async () => {
    put(key());
    azure.vault.knobs.answer = () => failed(403, "Forbidden", "ForbiddenByRbac");
    await expect(replica()).rejects.toThrow(/Key Vault Secrets User/);
    azure.vault.knobs.answer = () => failed(404, "SecretNotFound");
    await expect(replica()).rejects.toThrow(`${azure.vault.url}/secrets/keyring cannot be used`);
    azure.vault.knobs.answer = () => "hang";
    await expect(replica(200)).rejects.toThrow("did not answer within 0.2 seconds");
  });
});

describe("a key that is added in the vault", () => {
  test("seals within five minutes without a restart, and what is known is not read again", async () => {
    const old = put(key());
    const { keys, ids, sealer } = await replica();
    const before = await sealer.seal("token", "place");
    const watching = keys.watch();
    const current = put(key());
    expect(await ids()).toEqual([old]);
    azure.vault.asked.length = 0;
    clock.advance(5 * MINUTE);
    await expect.poll(ids).toEqual([current, old]);
    expect(azure.vault.asked.filter((path) => path.includes(old))).toEqual([]);
    expect(logs).toEqual([{ event: "keyring_changed", fields: { keyIds: [current, old] } }]);
    const after = await sealer.seal("token", "place");
    expect(Buffer.from(after).includes(current)).toBe(true);
    expect(await sealer.open(before, "place")).toBe("token");
    await watching.stop();
    clock.advance(HOUR);
    const count = azure.vault.asked.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(azure.vault.asked).toHaveLength(count);
  });

  test("opens at a replica that has not seen it, by one look for all that need it", async () => {
    put(key());
    const slow = await replica();
    put(key());
    const quick = await replica();
    const boxes = await Promise.all([1, 2, 3, 4, 5].map((n) => quick.sealer.seal(`token ${n}`, "place")));
    azure.vault.asked.length = 0;
    const opened = await Promise.all(boxes.map((box) => slow.sealer.open(box, "place")));
    expect(opened).toEqual([1, 2, 3, 4, 5].map((n) => `token ${n}`));
    expect(azure.vault.asked).toHaveLength(2);
  });

  test("signs proofs that a replica takes which has not seen it, and those of the old key stay good", async () => {
    put(key());
    const slow = await replica();
    const before = await slow.signer.sign("ticket", "oauthreq_1");
    put(key());
    const quick = await replica();
    expect(await quick.signer.isOurs("ticket", "oauthreq_1", before)).toBe(true);
    const after = await quick.signer.sign("ticket", "oauthreq_1");
    expect(after).not.toBe(before);
    expect(await slow.signer.isOurs("ticket", "oauthreq_1", after)).toBe(true);
    expect(await slow.signer.isOurs("ticket", "oauthreq_2", after)).toBe(false);
  });
});

test("a key that is disabled opens nothing any more, and says its name", async () => {
  const old = put(key());
  put(key());
  const { keys, ids, sealer } = await replica();
  const box = await sealer.seal("token", "place");
  const [current = ""] = await ids();
  disable(current);
  const watching = keys.watch();
  clock.advance(5 * MINUTE);
  await expect.poll(ids).toEqual([old]);
  await expect(sealer.open(box, "place")).rejects.toEqual(refusal(`no key "${current}"`));
  await watching.stop();
});

test("a key that is missing is missing for good only when the vault has just said so", async () => {
  put(key());
  const { sealer } = await replica();
  const stranger = createSealer({ keyring: [{ id: "lost", bytes: suite.randomBytes(32) }], suite });
  const box = await stranger.seal("token", "place");
  const passing = async () => {
    const error: unknown = await sealer.open(box, "place").catch((thrown: unknown) => thrown);
    return isRefusal(error, "unavailable") && error.details.passing === true;
  };
  expect(await passing()).toBe(false);
  expect(await passing()).toBe(true);
  azure.vault.knobs.answer = () => failed(503, "Unavailable");
  clock.advance(MINUTE);
  expect(await passing()).toBe(true);
  azure.vault.knobs.answer = () => null;
  clock.advance(MINUTE);
  expect(await passing()).toBe(false);
});

test("a box that names a key of nobody asks the vault once a minute, however many there are", async () => {
  put(key());
  const { sealer } = await replica();
  const stranger = createSealer({ keyring: [{ id: "evil", bytes: suite.randomBytes(32) }], suite });
  const box = await stranger.seal("token", "place");
  azure.vault.asked.length = 0;
  const tries = async () => {
    await Promise.all(
      Array.from({ length: 50 }, () =>
        expect(sealer.open(box, "place")).rejects.toEqual(refusal('no key "evil"')),
      ),
    );
    return azure.vault.asked.length;
  };
  expect(await tries()).toBe(1);
  clock.advance(MINUTE - 1);
  expect(await tries()).toBe(1);
  clock.advance(1);
  expect(await tries()).toBe(2);
});

test("proofs of anybody's making take no look away from a box whose key another replica has seen first", async () => {
  put(key());
  const slow = await replica();
  put(key());
  const quick = await replica();
  const box = await quick.sealer.seal("token", "place");
  azure.vault.knobs.answer = () => failed(503, "Unavailable");
  expect(await slow.signer.isOurs("ticket", "oauthreq_1", "made up")).toBe(false);
  azure.vault.knobs.answer = () => null;
  expect(await slow.sealer.open(box, "place")).toBe("token");
  azure.vault.asked.length = 0;
  for (let n = 0; n < 5; n++) await slow.signer.isOurs("ticket", "oauthreq_1", `made up ${n}`);
  expect(azure.vault.asked).toEqual([]);
});

describe("a vault that is away", () => {
  test.each([
    ["throttles", () => ({ ...failed(429, "Throttled"), headers: { "retry-after": "120" } }), "asks to wait"],
    ["forbids", () => failed(403, "Forbidden"), "Key Vault Secrets User"],
    ["fails", () => failed(503, "Unavailable"), "(503)"],
  ] as const)(
    "because it %s: the keyring serves on, logged once, and then it is back",
    async (_, answer, why) => {
      const old = put(key());
      const { keys, ids, sealer } = await replica();
      const box = await sealer.seal("token", "place");
      const watching = keys.watch();
      azure.vault.knobs.answer = answer;
      clock.advance(5 * MINUTE);
      await expect.poll(events).toEqual(["keyring_unreachable"]);
      expect(logs[0]?.fields["why"]).toContain(why);
      for (let round = 0; round < 3; round++) {
        clock.advance(MINUTE);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      expect(await sealer.open(box, "place")).toBe("token");
      expect(events()).toEqual(["keyring_unreachable"]);
      const current = put(key());
      azure.vault.knobs.answer = () => null;
      clock.advance(2 * MINUTE);
      await expect.poll(events).toContain("keyring_reachable");
      expect(await ids()).toEqual([current, old]);
      await watching.stop();
    },
  );

  test("serves for 24 hours since it was read last; then nothing is sealed nor opened until it is back", async () => {
    put(key());
    const { sealer, signer } = await replica();
    const box = await sealer.seal("token", "place");
    azure.vault.knobs.answer = () => failed(503, "Unavailable");
    clock.advance(24 * HOUR);
    expect(await sealer.open(box, "place")).toBe("token");
    clock.advance(1);
    const why = refusal("was last read 24 hours ago, which is too long");
    await expect(sealer.open(box, "place")).rejects.toEqual(why);
    // Anybody may be told, who only asks for the public keys. The log knows more.
    const told: unknown = await sealer.open(box, "place").catch((thrown: unknown) => thrown);
    expect(isRefusal(told, "unavailable") && told.details.what).not.toContain(azure.vault.url);
    expect(logs[0]?.fields).toEqual({
      secret: `${azure.vault.url}/secrets/keyring`,
      why: expect.stringContaining("(503)"),
    });
    // What was opened in time may still be kept.
    await sealer.seal("token", "place");
    azure.vault.asked.length = 0;
    clock.advance(MINUTE);
    await expect(sealer.seal("token", "place")).rejects.toEqual(why);
    await expect(signer.sign("ticket", "x")).rejects.toEqual(why);
    const count = azure.vault.asked.length;
    await expect(sealer.open(box, "place")).rejects.toEqual(why);
    expect(azure.vault.asked).toHaveLength(count);
    azure.vault.knobs.answer = () => null;
    clock.advance(MINUTE);
    expect(await sealer.open(box, "place")).toBe("token");
  });

  test("or holds something broken by now: what is known serves on, and the fault names the version", async () => {
    const old = put(key());
    const { keys, ids } = await replica();
    const watching = keys.watch();
    const broken = put("hunter2-hunter2");
    clock.advance(5 * MINUTE);
    await expect.poll(events).toEqual(["keyring_unreachable"]);
    expect(logs[0]?.fields["why"]).toContain(`version ${broken}`);
    expect(JSON.stringify(logs)).not.toContain("hunter2");
    expect(await ids()).toEqual([old]);
    await watching.stop();
  });
});
