import { createHmac, hkdfSync } from "node:crypto";
import { expect, test } from "vitest";
import { type Keyring, parseKeyring } from "../../src/secrets/keyring.ts";
import { createSigner } from "../../src/secrets/signer.ts";

const keyOf = (id: string, fill: number) => `${id}:${Buffer.alloc(32, fill).toString("base64")}`;
const old = keyOf("old", 1);
const current = keyOf("new", 2);
const signerOf = (text: string) => createSigner(parseKeyring(text));

/** RFC 5869 and RFC 2104 once more, by another library. */
function expected([{ bytes }]: Keyring, signed: string): string {
  const key = hkdfSync("sha256", bytes, "", "consentry signer 1", 32);
  return createHmac("sha256", Buffer.from(key)).update(signed).digest("base64url");
}

test("a proof is an HMAC under a key that HKDF derives", async () => {
  const mac = await signerOf(current).sign("ticket", "oauthreq_1");
  expect(mac).toBe(expected(parseKeyring(current), '["ticket","oauthreq_1"]'));
  expect(mac).toMatch(/^[\w-]{43}$/);
});

test("the same text has the same proof, in every process", async () => {
  const macs = await Promise.all(["a", "a", "b"].map((text) => signerOf(current).sign("ticket", text)));
  expect(new Set(macs).size).toBe(2);
  expect(macs[0]).toBe(macs[1]);
});

test("the newest key signs, every key of the ring verifies, one that was taken out does not", async () => {
  const before = await signerOf(old).sign("ticket", "x");
  const rotated = signerOf(`${current},${old}`);
  expect(await rotated.isOurs("ticket", "x", before)).toBe(true);
  const after = await rotated.sign("ticket", "x");
  expect(after).not.toBe(before);
  expect(await signerOf(current).isOurs("ticket", "x", after)).toBe(true);
  expect(await signerOf(current).isOurs("ticket", "x", before)).toBe(false);
});

test("no purpose passes for another, nor runs into its text", async () => {
  const signer = signerOf(current);
  const mac = await signer.sign("ticket", "a");
  const pairs = [
    ["csrf", "a"],
    ["ticket", "b"],
    ["ticketa", ""],
    ["", "ticketa"],
    ["ticke", "ta"],
    ['ticket","a', ""],
  ] as const;
  for (const [purpose, text] of pairs) expect(await signer.isOurs(purpose, text, mac)).toBe(false);
  expect(await signer.isOurs("ticket", "a", mac)).toBe(true);
});

test("a proof has one spelling", async () => {
  const signer = signerOf(current);
  const mac = await signer.sign("ticket", "a");
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const fits: string[] = [];
  for (let at = 0; at < mac.length; at++) {
    for (const letter of alphabet) {
      const given = mac.slice(0, at) + letter + mac.slice(at + 1);
      if (await signer.isOurs("ticket", "a", given)) fits.push(given);
    }
  }
  // Once for each place: base64 that would decode to the same bytes is refused as well.
  expect(new Set(fits)).toEqual(new Set([mac]));
  for (const given of ["", mac.slice(1), `${mac}=`, `${mac}A`, mac.toUpperCase()])
    expect(await signer.isOurs("ticket", "a", given)).toBe(false);
});

test("halves of characters are not all one", async () => {
  const signer = signerOf(current);
  expect(await signer.isOurs("ticket", "\ud801", await signer.sign("ticket", "\ud800"))).toBe(false);
});
