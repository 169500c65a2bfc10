// What a first start makes, and what a start says that cannot be.
import { mkdir, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type BrokerProcess, startBroker } from "../helpers/process.ts";

let folder: string;
let brokers: BrokerProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-start-"));
});
afterEach(async () => {
  await Promise.all(brokers.map((broker) => broker.kill9()));
  brokers = [];
  await rm(folder, { recursive: true, force: true });
});

const database = () => join(folder, "data", "consentry.db");
const start = async (env: Record<string, string> = {}) => {
  const broker = await startBroker({ CONSENTRY_DATABASE_URL: `file:${database()}`, ...env });
  brokers.push(broker);
  return broker;
};
const refusal = (env: Record<string, string>) =>
  start(env).then(
    () => "it started",
    (error: Error) => error.message,
  );
const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8);

test("without a terminal the key is in a file of mode 0600, as are the keyring and the database, and in no output", async () => {
  const broker = await start();
  const path = join(folder, "data", "admin-key");
  const key = (await readFile(path, "utf8")).trim();
  expect(key).toMatch(/^csk_[\w-]{43}$/);
  expect(broker.output()).not.toContain(key);
  expect(await Promise.all([path, database(), `${database()}.keyring`].map(modeOf))).toEqual([
    "600",
    "600",
    "600",
  ]);
  const answer = await fetch(`${broker.url}/api/projects`, { headers: { "api-key": key } });
  expect(await answer.json()).toMatchObject({ value: [{ name: "default" }] });
});

test("a key that could not be handed over is no key: the next start makes another", async () => {
  const path = join(folder, "data", "admin-key");
  await mkdir(path, { recursive: true });
  expect(await refusal({})).toContain("EISDIR");
  await rm(path, { recursive: true });
  const broker = await start();
  const key = (await readFile(path, "utf8")).trim();
  const answer = await fetch(`${broker.url}/api/projects`, { headers: { "api-key": key } });
  expect(answer.status).toBe(200);
});

test("a second start keeps the key, and a configured one replaces it", async () => {
  const first = await start();
  const key = (await readFile(join(folder, "data", "admin-key"), "utf8")).trim();
  expect(await first.stop()).toBe(0);
  const status = async (broker: BrokerProcess, given: string) =>
    (await fetch(`${broker.url}/api/projects`, { headers: { authorization: `Bearer ${given}` } })).status;
  const second = await start();
  expect(await status(second, key)).toBe(200);
  expect(await second.stop()).toBe(0);
  const third = await start({ CONSENTRY_ADMIN_KEY: "another-key" });
  expect([await status(third, key), await status(third, "another-key")]).toEqual([401, 200]);
  // What is no key any more would be taken for one.
  await expect(stat(join(folder, "data", "admin-key"))).rejects.toThrow("ENOENT");
});

test("a lost keyring is noticed, and no new one is made over it", async () => {
  await (await start()).stop();
  await rm(`${database()}.keyring`);
  const message = await refusal({});
  expect(message).toContain("is missing");
  expect(message).not.toContain("    at ");
  await expect(stat(`${database()}.keyring`)).rejects.toThrow();
});

describe("what cannot start says what to do, without a stack", () => {
  test("a port that is taken", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as { port: number };
    const message = await refusal({ CONSENTRY_PORT: String(port) });
    expect(message).toContain("set CONSENTRY_PORT");
    expect(message).not.toContain("    at ");
    other.close();
  });

  test.each([
    [
      {
        CONSENTRY_DATABASE_URL: "postgres://u:canary@127.0.0.1:1/x",
        CONSENTRY_KEYRING: `k:${"A".repeat(43)}=`,
      },
      "CONSENTRY_DATABASE_URL",
    ],
    [{ CONSENTRY_EGRESS_ALLOW: "http://" }, "CONSENTRY_EGRESS_ALLOW"],
    [{ CONSENTRY_HSOT: "x" }, "CONSENTRY_HOST"],
    [{ CONSENTRY_HOST: "0.0.0.0" }, "CONSENTRY_PUBLIC_URL"],
  ])("%j", async (env, named) => {
    const message = await refusal(env);
    expect(message).toContain(named);
    expect(message).not.toContain("    at ");
    expect(message).not.toContain("canary");
  });
});
