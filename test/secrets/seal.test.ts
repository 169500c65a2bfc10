import { describe, expect, test } from "vitest";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { createWebCrypto } from "../../src/secrets/crypto.web.ts";
import { parseKeyring } from "../../src/secrets/keyring.ts";
import { createSealer } from "../../src/secrets/seal.ts";

const node = createNodeCrypto();
const web = createWebCrypto();
const entry = (id: string) => `${id}:${node.randomText(32)}`;
const old = entry("2025");
const current = entry("2026");
const sealerOf = (text: string, suite = node) => createSealer({ keyring: parseKeyring(text), suite });
const refusal = (why: string) =>
  expect.objectContaining({ code: "unavailable", details: { what: expect.stringContaining(why) } });

describe.each([
  { name: "node:crypto", suite: node, other: web },
  { name: "Web Crypto", suite: web, other: node },
])("a box sealed by $name", ({ suite, other }) => {
  const sealer = createSealer({ keyring: parseKeyring(current), suite });

  test("opens in its place, whatever the text", async () => {
    for (const plain of ["", "token", "\u{feff}bom \u{0} \u{1f511}", "x".repeat(200_000)]) {
      expect(await sealer.open(await sealer.seal(plain, "place"), "place")).toBe(plain);
    }
  });

  test("opens with the other runtime's cryptography", async () => {
    const box = await sealer.seal("token", "place");
    expect(await createSealer({ keyring: parseKeyring(current), suite: other }).open(box, "place")).toBe(
      "token",
    );
  });

  test("is another box each time", async () => {
    expect(await sealer.seal("token", "place")).not.toEqual(await sealer.seal("token", "place"));
  });

  test("does not open in another place", async () => {
    const box = await sealer.seal("token", "project/a/connection/c");
    await expect(sealer.open(box, "project/b/connection/c")).rejects.toEqual(refusal("another place"));
    await expect(sealer.open(box, "")).rejects.toEqual(refusal("another place"));
  });

  test("does not open when any of its bits is flipped", async () => {
    const box = await sealer.seal("token", "place");
    for (let at = 0; at < box.length * 8; at++) {
      const touched = Uint8Array.from(box);
      touched[at >> 3] = (touched[at >> 3] ?? 0) ^ (1 << (at & 7));
      await expect(sealer.open(touched, "place"), `bit ${at}`).rejects.toEqual(refusal("cannot be opened"));
    }
  });

  test("does not open when it is cut or lengthened anywhere", async () => {
    const box = await sealer.seal("token", "place");
    for (let length = 0; length < box.length; length++) {
      await expect(sealer.open(box.subarray(0, length), "place"), `${length} bytes`).rejects.toEqual(
        refusal("cannot be opened"),
      );
    }
    const longer = new Uint8Array([...box, 0]);
    await expect(sealer.open(longer, "place")).rejects.toEqual(refusal("cannot be opened"));
  });

  test("opens from a view into a larger buffer, as drivers give them", async () => {
    const box = await sealer.seal("token", "place");
    const page = new Uint8Array(box.length + 20);
    page.set(box, 10);
    expect(await sealer.open(page.subarray(10, 10 + box.length), "place")).toBe("token");
  });
});

describe("rotation", () => {
  test("old boxes still open, and new ones use the newest key", async () => {
    const before = await sealerOf(old).seal("token", "place");
    const rotated = sealerOf(`${current},${old}`);
    expect(await rotated.open(before, "place")).toBe("token");

    const after = await rotated.seal("token", "place");
    expect(await sealerOf(current).open(after, "place")).toBe("token");
    await expect(sealerOf(old).open(after, "place")).rejects.toEqual(refusal('no key "2026"'));
  });

  test("a box whose key has left the keyring says which key it wants", async () => {
    const before = await sealerOf(old).seal("token", "place");
    await expect(sealerOf(current).open(before, "place")).rejects.toEqual(refusal('no key "2025"'));
  });

  test("a key under another's name opens nothing", async () => {
    const box = await sealerOf(current).seal("token", "place");
    const impostor = `2026:${node.randomText(32)}`;
    await expect(sealerOf(impostor).open(box, "place")).rejects.toEqual(refusal("damaged"));
    const renamed = current.replace("2026", "2025");
    await expect(sealerOf(`${renamed}`).open(box, "place")).rejects.toEqual(refusal('no key "2026"'));
  });
});

test("a box's header is sealed with it: no other key's name, no other version", async () => {
  const [{ bytes }] = parseKeyring(current);
  const keyring = [
    { id: "2026", bytes },
    { id: "2027", bytes },
  ] as const;
  const sealer = createSealer({ keyring, suite: node });
  const box = await sealer.seal("token", "place");
  const renamed = Uint8Array.from(box).fill("7".charCodeAt(0), 5, 6);
  await expect(sealer.open(renamed, "place")).rejects.toEqual(refusal("damaged"));
  const newer = Uint8Array.from(box).fill(2, 0, 1);
  await expect(sealer.open(newer, "place")).rejects.toEqual(refusal("of another version"));
});

test("a box does not show what it holds, and its first byte is the format's version", async () => {
  const box = await sealerOf(current).seal("a-very-secret-token", "place");
  expect(Buffer.from(box).includes("secret")).toBe(false);
  expect(box[0]).toBe(1);
  expect(Buffer.from(box.subarray(2, 6)).toString()).toBe("2026");
});
