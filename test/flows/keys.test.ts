import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { appendFile, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { handleAad } from "../../src/core/storage.ts";
import { removeKey } from "../../src/keys-commands.ts";
import { openDesk } from "../../src/keys-desk.ts";
import { keysMain } from "../../src/keys.ts";
import { parseKeyring } from "../../src/secrets/keyring.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { aSealingKey, realClock, resealing } from "../helpers/keyrings.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";
import { migrations } from "../store/engines.ts";
import { aHandle } from "../store/things.ts";
import { ADMIN_KEY, call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const never = new AbortController().signal;

/** The command, as a script runs it, or a person at a terminal. */
async function keys(
  env: Record<string, string>,
  args: string[],
  { isTerminal = false, laterMs = 0 }: { isTerminal?: boolean; laterMs?: number } = {},
) {
  const said: string[] = [];
  const complaints: string[] = [];
  const code = await keysMain(env, args, {
    say: (line) => said.push(line),
    complain: (line) => complaints.push(line),
    isTerminal,
    signal: never,
    clock: { ...realClock, now: () => Date.now() + laterMs },
  });
  return { code, said, complaints, text: [...said, ...complaints].join("\n") };
}

/** By then every broker has looked at its file again, twice. */
const settled = { laterMs: 61_000 };

/** The 32 bytes themselves, however they are told. */
const secretsIn = (text: string) => text.match(/[A-Za-z0-9+/]{43}=/g) ?? [];

describe("a keyring in a file", () => {
  let world: TestWorld;
  let server: ModernServer;
  let clock: ReturnType<typeof scriptedClock>;
  let env: Record<string, string>;
  let path: string;
  beforeEach(async () => {
    server = await startModernServer({
      tools: [{ name: "work", inputSchema: schemaOf({}, []), run: async () => say("worked") }],
    });
    clock = scriptedClock();
    world = await createWorld({ clock });
    path = join(world.folder, "consentry.db.keyring");
    env = {
      CONSENTRY_DATABASE_URL: `file:${join(world.folder, "consentry.db")}`,
      CONSENTRY_ADMIN_KEY: ADMIN_KEY,
    };
    await world.connect("work", {
      authType: "CustomKeys",
      target: server.url,
      credentials: { keys: { Authorization: "Bearer of-a-test" } },
    });
  });
  afterEach(async () => {
    await world.stop();
    await server.stop();
  });

  const idsIn = async () =>
    (await readFile(path, "utf8"))
      .trim()
      .split("\n")
      .map((line) => line.split(":")[0] ?? "");
  /** Moves the clock on until it is so. */
  const until = async (what: () => boolean | Promise<boolean>) => {
    await expect
      .poll(
        async () => {
          clock.advance(1_000);
          return what();
        },
        { timeout: 20_000, interval: 10 },
      )
      .toBe(true);
  };
  const event = (name: string) => world.logs.filter((line) => line.event === name);
  const work = async () => {
    const client = await world.runtime();
    const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];
    const response = await client.responses.create({ tools, input: [call("work", "work", {})] });
    return {
      output: itemsOf(response, "mcp_call")[0]?.output,
      again: () => client.responses.retrieve(response.id),
    };
  };

  test("is rotated while the broker runs: a new key seals, the rest is sealed anew, the old one goes, and all still opens", async () => {
    const [old = ""] = await idsIn();
    const before = await work();
    const listed = await keys(env, ["list"]);
    expect(listed.code).toBe(0);
    expect(listed.said[0]).toMatch(new RegExp(`^${old} {2}seals {2}\\d+ boxes: .*connections\\.sealed 1`));

    const added = await keys(env, ["add"]);
    expect(added.code).toBe(0);
    const [next = "", ...others] = await idsIn();
    expect(others).toEqual([old]);
    expect(added.text).toContain(next);
    expect(secretsIn(added.text)).toEqual([]);
    expect((await stat(path)).mode & 0o777).toBe(0o600);

    await until(() => event("keyring_changed").length > 0);
    await until(() => event("reseal_ended").some(({ fields }) => fields["keyId"] === next));
    const after = await keys(env, ["list"]);
    expect(after.said).toEqual([
      expect.stringMatching(new RegExp(`^${next} {2}seals {2}[1-9].*connections\\.sealed 1`)),
      `${old}  opens  0 boxes`,
    ]);

    expect(await keys(env, ["remove", old], settled)).toMatchObject({ code: 0 });
    expect(await idsIn()).toEqual([next]);
    await until(() => event("keyring_changed").length > 1);
    expect((await work()).output).toBe("worked");
    expect(itemsOf(await before.again(), "mcp_call")[0]?.output).toBe("worked");
  }, 60_000);

  test("lets no key go that has sealed something, nor the one that seals, nor one that it has not", async () => {
    const [old = ""] = await idsIn();
    expect(await keys(env, ["remove", old], settled)).toMatchObject({
      code: 1,
      complaints: [
        expect.stringMatching(/has sealed {2}1 box: connections\.sealed 1\. .*npm run keys -- reseal/),
      ],
    });
    await keys(env, ["add"]);
    const [next = ""] = await idsIn();
    expect((await keys(env, ["remove", next], settled)).text).toContain("is the key that seals");
    expect((await keys(env, ["remove", "k0"], settled)).text).toContain('has no key "k0"');
    expect(await idsIn()).toEqual([next, old]);
  });

  test("reseal waits for the end and says it; then the old key may go", async () => {
    const [old = ""] = await idsIn();
    await keys(env, ["add"]);
    const resealed = await keys(env, ["reseal"]);
    expect(resealed.code).toBe(0);
    expect(resealed.said.at(-1)).toMatch(
      /^[1-9]\d* sealed anew under k[0-9a-f]{8}, 0 changed meanwhile, 0 did not open\.$/,
    );
    expect(await keys(env, ["remove", old], settled)).toMatchObject({ code: 0 });
  });

  test("a key does not go while a broker may still seal under it: what that one sealed opens for ever", async () => {
    const [old = ""] = await idsIn();
    await keys(env, ["add"]);
    const [next] = await idsIn();
    await keys(env, ["reseal"]);
    const early = await keys(env, ["remove", old]);
    expect(early.code).toBe(1);
    expect(early.text).toMatch(/was changed just now: .* Try again in \d\d? seconds\.$/);
    expect((await keys(env, ["remove", old], { laterMs: 30_000 })).text).toMatch(/in [123]?\d seconds/);
    // The broker has not looked yet, and seals under the key that was the first.
    await world.connect("work-too", {
      authType: "CustomKeys",
      target: server.url,
      credentials: { keys: { Authorization: "Bearer of-a-test" } },
    });
    const late = await keys(env, ["remove", old], settled);
    expect(late.text).toMatch(/has sealed .*npm run keys -- reseal/);
    expect(await idsIn()).toEqual([next, old]);
    // A change for another purpose counts, too: nobody knows what it was.
    await keys(env, ["reseal"]);
    await keys(env, ["add", "--standby"], settled);
    expect((await keys(env, ["remove", old])).text).toContain("was changed just now");
    expect(await keys(env, ["remove", old], settled)).toMatchObject({ code: 0 });
  });

  test("a key that was taken out is kept beside the file, and opens again when it is put back", async () => {
    const [old = ""] = await idsIn();
    const kept = await readFile(path, "utf8");
    await keys(env, ["add"]);
    await keys(env, ["reseal"]);
    const removed = await keys(env, ["remove", old], settled);
    expect(removed.text).toContain(`${path}.removed`);
    expect(secretsIn(removed.text)).toEqual([]);
    expect(await readFile(`${path}.removed`, "utf8")).toBe(kept);
    expect((await stat(`${path}.removed`)).mode & 0o777).toBe(0o600);
    // As docs/keys.md says; and once more taken out, it is there once.
    await appendFile(path, kept);
    expect(await keys(env, ["list"])).toMatchObject({ code: 0 });
    expect((await idsIn()).at(-1)).toBe(old);
    expect(await keys(env, ["remove", old], settled)).toMatchObject({ code: 0 });
    expect(await readFile(`${path}.removed`, "utf8")).toBe(kept);
    // Another key of that name would take the place of the first.
    await appendFile(path, `${old}:${Buffer.from(aSealingKey(old).bytes).toString("base64")}\n`);
    expect((await keys(env, ["remove", old], settled)).text).toContain("move that file away");
    expect(await readFile(`${path}.removed`, "utf8")).toBe(kept);
    expect(await idsIn()).toHaveLength(2);
  });

  test("what was sealed under a key while it was taken out puts it back", async () => {
    const [old = ""] = await idsIn();
    const before = parseKeyring(await readFile(path, "utf8"));
    await keys(env, ["add"]);
    const [next] = await idsIn();
    await keys(env, ["reseal"]);
    const { store } = world.world;
    const behind = resealing(store, before).sealer;
    const desk = {
      say: () => {},
      complain: (line: string) => complaints.push(line),
      isTerminal: false,
      signal: never,
      clock: { ...realClock, now: () => Date.now() + settled.laterMs },
    };
    const complaints: string[] = [];
    const opened = await openDesk(parseConfig(env), desk);
    const { boxes } = opened.store.upkeep;
    const window = boxes.window;
    let looks = 0;
    // It writes where the first count has been already.
    boxes.window = async (...args) => {
      const found = await window(...args);
      if (++looks === boxes.places.length) {
        const handle = aHandle("default");
        const aad = handleAad("default", handle.kind, handle.hash);
        await store.handles.put({ ...handle, sealed: await behind.seal("x", aad) }, []);
      }
      return found;
    };
    expect(await removeKey(opened, old)).toBe(1);
    await opened.close();
    expect(complaints.join()).toMatch(/has sealed {2}1 box: handles\.sealed 1 meanwhile/);
    expect(await idsIn()).toEqual([next, old]);
    expect(await keys(env, ["list"])).toMatchObject({ code: 0 });
  });

  test("a key on standby opens and does not seal, until it is used", async () => {
    const [old = ""] = await idsIn();
    const added = await keys(env, ["add", "--standby"]);
    const [first, next = ""] = await idsIn();
    expect(first).toBe(old);
    expect(added.text).toContain(`keys -- use ${next}`);
    expect(await keys(env, ["use", next])).toMatchObject({ code: 0 });
    expect(await idsIn()).toEqual([next, old]);
    expect((await keys(env, ["use", "k0"])).text).toContain('has no key "k0"');
  });

  test("of many that add at once none loses another's key", async () => {
    const added = await Promise.all(Array.from({ length: 8 }, () => keys(env, ["add"])));
    const made = added.filter(({ code }) => code === 0).length;
    expect(made).toBeGreaterThan(0);
    expect(await idsIn()).toHaveLength(1 + made);
    expect(
      added.filter(({ code }) => code !== 0).every(({ text }) => text.includes("somebody else is changing")),
    ).toBe(true);
  });

  test("a key that was taken out by hand is said to be missing, with what it sealed", async () => {
    const [old = ""] = await idsIn();
    const kept = await readFile(path, "utf8");
    await keys(env, ["add"]);
    const { editKeyringFile } = await import("../../src/secrets/keyring-edit.node.ts");
    await editKeyringFile(path, ([newest]) => [newest]);
    const listed = await keys(env, ["list"]);
    expect(listed.code).toBe(1);
    expect(listed.text).toMatch(new RegExp(`${old} {2}is missing {2}[1-9]`));
    expect(await keys(env, ["reseal"])).toMatchObject({ code: 1 });
    expect(kept).toContain(old);
  });
});

test("a keyring that is gone is not made anew, and the database that was sealed with it is named", async () => {
  const folder = await mkdtemp(join(tmpdir(), "consentry-keys-"));
  const env = { CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}` };
  await (await createWorld({ env })).stop();
  await rm(join(folder, "consentry.db.keyring"));
  const { code, text } = await keys(env, ["list"]);
  expect([code, text]).toEqual([
    1,
    expect.stringMatching(/db\.keyring is missing, and \S+consentry\.db was sealed with it/),
  ]);
  expect(existsSync(join(folder, "consentry.db.keyring"))).toBe(false);
  await rm(folder, { recursive: true });
});

describe("elsewhere", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "consentry-keys-"));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const inline = () => ({
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, "0123456789abcdef").toString("base64")}`,
  });

  test("the new value of the variable is shown to a person, and otherwise goes into a file of mode 0600", async () => {
    const shown = await keys(inline(), ["add"], { isTerminal: true });
    expect(secretsIn(shown.text)).toHaveLength(2);
    const { code, text } = await keys(inline(), ["add"]);
    expect(code).toBe(0);
    expect(secretsIn(text)).toEqual([]);
    const path = join(folder, "keyring-to-be");
    expect(text).toContain(path);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readFile(path, "utf8")).toMatch(/^k[0-9a-f]{8}:\S+=,k1:\S+=\n$/);
  });

  test("a keyring in a vault is added to there, and how is said", async () => {
    const vault = { ...inline(), CONSENTRY_KEYRING: "https://one.vault.azure.net/secrets/ring" };
    const { code, text } = await keys(vault, ["add"]);
    expect(code).toBe(1);
    expect(text).toContain("az keyvault secret set --vault-name one --name ring");
  });

  test("a database that no broker has used lets no key go", async () => {
    expect((await keys(inline(), ["list"])).text).toContain("there is no database");
    const file = { CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}` };
    expect((await keys(file, ["remove", "k1"])).text).toContain("there is no database");
    await openSqlite(join(folder, "consentry.db"), { migrations: migrations.sqlite }).close();
    expect((await keys(file, ["remove", "k1"])).text).toContain("makes its keyring at its first start");
  });

  test.each([
    [[]],
    [["rotate"]],
    [["use"]],
    [["list", "more"]],
    [["list", "--standby"]],
    [["add", "--loud"]],
  ])("of %j it says what there is to say", async (args) => {
    const { code, complaints } = await keys(inline(), args);
    expect(code).toBe(1);
    expect(complaints.join()).toContain("npm run keys -- <command>");
  });

  test("it is a command of the broker's own", async () => {
    const door = join(import.meta.dirname, "../../bin/consentry.mjs");
    const child = spawn(process.execPath, [door, "keys", "add"], { env: inline(), stdio: "pipe" });
    let text = "";
    child.stdout.on("data", (data) => (text += String(data)));
    child.stderr.on("data", (data) => (text += String(data)));
    expect(await once(child, "exit")).toEqual([0, null]);
    expect(text).toContain("keyring-to-be");
    expect(secretsIn(text)).toEqual([]);
  });
});
