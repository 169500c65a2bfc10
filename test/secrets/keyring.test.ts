import { fork } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isPlaceholder, KeyringError, parseKeyring } from "../../src/secrets/keyring.ts";
import { ensureKeyringFile, readKeyringFile } from "../../src/secrets/keyring.node.ts";

const base64 = (seed: number) =>
  Buffer.from(Array.from({ length: 32 }, (_, at) => at + seed)).toString("base64");

function faultsOf(text: string): readonly string[] {
  try {
    parseKeyring(text);
  } catch (error) {
    if (error instanceof KeyringError) return error.faults;
    throw error;
  }
  return [];
}

describe("a keyring", () => {
  test("is read newest first, from a line or from lines", () => {
    const ids = (text: string) => parseKeyring(text).map(({ id }) => id);
    expect(ids(`b:${base64(1)},a:${base64(2)}`)).toEqual(["b", "a"]);
    expect(ids(`b:${base64(1)}\n a:${base64(2)} ,\r\n`)).toEqual(["b", "a"]);
  });

  test("a placeholder is noticed, a random key is not", () => {
    expect(parseKeyring(`k:${"A".repeat(43)}=`).map(isPlaceholder)).toEqual([true]);
    expect(parseKeyring(`k:${base64(1)}`).map(isPlaceholder)).toEqual([false]);
  });

  test("takes both alphabets of base64, with or without padding", () => {
    const key = Buffer.from(Array.from({ length: 32 }, (_, at) => 255 - at * 3));
    for (const text of [key.toString("base64"), key.toString("base64url"), `${key.toString("base64url")}=`]) {
      expect(Buffer.from(parseKeyring(`k:${text}`)[0].bytes)).toEqual(key);
    }
  });

  test("lists every fault at once", () => {
    const short = Buffer.from("too short").toString("base64");
    expect(faultsOf(`a:${short},noid,b c:${base64(1)},d:%%%`)).toEqual([
      "entry 1 (a) has 9 bytes instead of 32",
      "entry 2 has no id (expected id:base64)",
      "entry 3 has no id (expected id:base64)",
      "entry 5 (d) is not base64",
    ]);
    expect(faultsOf(`a:${base64(1)},a:${base64(2)},b:${base64(1)}`)).toEqual([
      "the id a occurs twice",
      "b is the same key as a",
    ]);
    expect(faultsOf(" \n, ")).toEqual(["it holds no key (expected id:base64)"]);
  });

  test("never shows key material in a fault, even where a key stands in the id's place", () => {
    const key = base64(200);
    const texts = [
      key,
      `${key}:x`,
      `id:${key}${key}`,
      `id:${key}!`,
      `a:${key},b:${key}`,
      `a:${key},a:${key}`,
    ];
    const faults = texts.map((text) => faultsOf(text).join());
    expect(faults).not.toContain("");
    for (const fault of faults) expect(fault).not.toContain(key.slice(0, 12));
  });
});

describe("a keyring file", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "keyring-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("is made at the first start, for its owner only, and read at the next", async () => {
    const path = join(folder, "new", "consentry.db.keyring");
    const first = await ensureKeyringFile(path);
    expect(first.created).toBe(true);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(folder, "new"))).mode & 0o777).toBe(0o700);
    expect(await readdir(join(folder, "new"))).toEqual(["consentry.db.keyring"]);

    const second = await ensureKeyringFile(path);
    expect(second).toEqual({ keyring: first.keyring, created: false });
    expect(await readKeyringFile(path)).toEqual(first.keyring);
  });

  test("is made once when many start at the same moment, within a process and across processes", async () => {
    const path = join(folder, "race", "keyring");
    const script = join(folder, "start.ts");
    const module = join(import.meta.dirname, "../../src/secrets/keyring.node.ts");
    await writeFile(
      script,
      `import { ensureKeyringFile } from ${JSON.stringify(module)};
       process.once("message", async (path) => process.send(await ensureKeyringFile(path), () => process.disconnect()));
       process.send("ready");`,
    );
    const children = [1, 2, 3].map(() => fork(script, { execArgv: [] }));
    await Promise.all(children.map((child) => once(child, "message")));
    const answers = children.map((child) => once(child, "message"));
    for (const child of children) child.send(path);
    const here = await Promise.all([1, 2, 3, 4, 5].map(() => ensureKeyringFile(path)));
    const there = (await Promise.all(answers)).map(
      ([answer]) => answer as { created: boolean; keyring: unknown },
    );

    const ids = [...here, ...there].map(({ keyring }) => (keyring as { id: string }[])[0]?.id);
    expect(new Set(ids).size).toBe(1);
    expect([...here, ...there].filter(({ created }) => created)).toHaveLength(1);
    expect(await readdir(join(folder, "race"))).toEqual(["keyring"]);
  });

  test.skipIf(process.platform === "win32")("that others may read is refused, and left alone", async () => {
    const path = join(folder, "loose");
    await writeFile(path, `k:${base64(1)}`);
    await chmod(path, 0o644);
    await expect(ensureKeyringFile(path)).rejects.toThrow("chmod 600");
    expect(await readFile(path, "utf8")).toBe(`k:${base64(1)}`);
  });

  test("that is broken is refused by name and never replaced", async () => {
    const path = join(folder, "broken");
    await writeFile(path, "k:c2hvcnQ=", { mode: 0o600 });
    await expect(ensureKeyringFile(path)).rejects.toThrow(`${path}: entry 1 (k) has 5 bytes`);
    expect(await readFile(path, "utf8")).toBe("k:c2hvcnQ=");
  });

  test("that is missing or in an impossible place is refused with the path", async () => {
    await expect(readKeyringFile(join(folder, "absent"))).rejects.toThrow("absent cannot be read (ENOENT)");
    await writeFile(join(folder, "file"), "");
    await expect(ensureKeyringFile(join(folder, "file", "keyring"))).rejects.toThrow(KeyringError);
  });
});
