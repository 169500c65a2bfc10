import { describe, expect, test } from "vitest";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { createWebCrypto } from "../../src/secrets/crypto.web.ts";
import { createNewId } from "../../src/secrets/ids.ts";

const runtimes = [
  { name: "node:crypto", make: createNodeCrypto },
  { name: "Web Crypto", make: createWebCrypto },
];
const bytes = (count: number, value: number) => new Uint8Array(count).fill(value);
const text = (value: string) => new TextEncoder().encode(value);

describe.each(runtimes)("$name", ({ make }) => {
  const suite = make();

  test("hashes as FIPS 180-4 says", async () => {
    expect(await suite.sha256("abc")).toBe(
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    expect(await suite.sha256("")).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(await suite.sha256("ü")).toBe("607474ca475a9724d7360aba71a56d5df77e61350e3f724cfa1f46e857e2d85f");
  });

  test("gives as many random bytes as asked, in base64url", () => {
    const texts = Array.from({ length: 100 }, () => suite.randomText(32));
    expect(new Set(texts).size).toBe(100);
    for (const value of texts) expect(value).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(suite.randomBytes(12)).toHaveLength(12);
    expect(suite.randomBytes(12)).not.toEqual(suite.randomBytes(12));
  });

  test("seals as NIST's AES-256-GCM vectors say", async () => {
    // Test case 14 of the GCM specification: a key, nonce and block of zeros.
    const key = await suite.cipherKey(bytes(32, 0));
    const sealed = await key.seal(bytes(12, 0), bytes(16, 0), bytes(0, 0));
    expect(Buffer.from(sealed).toString("hex")).toBe(
      "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
    );
  });

  test("opens what it sealed, and nothing that was touched", async () => {
    const key = await suite.cipherKey(bytes(32, 7));
    const nonce = bytes(12, 1);
    const sealed = await key.seal(nonce, text("secret"), text("place"));
    const opened = await key.open(nonce, sealed, text("place"));
    expect(opened && Buffer.from(opened).toString()).toBe("secret");

    const touched = Uint8Array.from(sealed);
    touched[0] = (touched[0] ?? 0) ^ 1;
    expect(await key.open(nonce, touched, text("place"))).toBeNull();
    expect(await key.open(nonce, sealed, text("elsewhere"))).toBeNull();
    expect(await key.open(bytes(12, 2), sealed, text("place"))).toBeNull();
    const other = await suite.cipherKey(bytes(32, 8));
    expect(await other.open(nonce, sealed, text("place"))).toBeNull();
  });

  test("seals the empty text", async () => {
    const key = await suite.cipherKey(bytes(32, 7));
    const sealed = await key.seal(bytes(12, 1), bytes(0, 0), text("place"));
    expect(sealed).toHaveLength(16);
    expect(await key.open(bytes(12, 1), sealed, text("place"))).toHaveLength(0);
  });

  test("takes keys of 32 bytes only", async () => {
    await expect((async () => suite.cipherKey(bytes(16, 7)))()).rejects.toThrow("32 bytes");
  });
});

describe("ids", () => {
  const { randomBytes } = createNodeCrypto();
  const newId = createNewId({ randomBytes, now: () => 0x0123456789ab });

  test("are a prefix and 50 hex digits, never the same twice", () => {
    const ids = Array.from({ length: 1000 }, () => newId("resp"));
    for (const id of ids) expect(id).toMatch(/^resp_[0-9a-f]{50}$/);
    expect(new Set(ids).size).toBe(1000);
  });

  test("of audit entries begin with the time", () => {
    expect(newId("evt", 0xfedcba987654)).toMatch(/^evt_fedcba987654[0-9a-f]{38}$/);
    expect(newId("evt")).toMatch(/^evt_0123456789ab[0-9a-f]{38}$/);
  });

  test("of audit entries sort by time, and in order within a millisecond", () => {
    const ids = [5, 5, 5, 5, 6, 6, 0x10000, 0x10000].map((at) => newId("evt", at));
    expect(ids.toSorted()).toEqual(ids);
  });
});
