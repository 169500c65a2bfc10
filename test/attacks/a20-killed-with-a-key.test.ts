// A20: the process is killed in the middle of a request that came with an Idempotency-Key (decision 0015).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { start as startHere } from "../../src/node.ts";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { type BrokerProcess, startBroker } from "../helpers/process.ts";
import { ADMIN_KEY, call, clientOf, itemsOf } from "../helpers/world.ts";

/** Two processes begin in it, on a machine that may be busy. */
const STARTS_MS = 90_000;

let folder: string;
let server: ModernServer;
let broker: BrokerProcess;
/** What the tool `work` does before it answers. */
let during: () => Promise<void> | void;
let runs = 0;

beforeAll(async () => {
  const work = {
    name: "work",
    inputSchema: schemaOf({}, []),
    run: async () => {
      runs++;
      await during();
      return say("worked");
    },
  };
  server = await startModernServer({ tools: [work] });
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-killed-"));
  runs = 0;
  during = () => {};
  broker = await startBroker(env());
  const made = await fetch(`${broker.url}/api/projects/default/connections/work`, {
    method: "PUT",
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ properties: { authType: "None", category: "RemoteTool", target: server.url } }),
  });
  if (!made.ok) throw new Error(`the connection was not made: ${made.status}`);
});
afterEach(async () => {
  await broker.kill9();
  await rm(folder, { recursive: true, force: true });
});
afterAll(() => server.stop());

const env = () => ({
  CONSENTRY_PORT: "0",
  CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
  CONSENTRY_ADMIN_KEY: ADMIN_KEY,
});
const body = {
  tools: [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }],
  input: [call("work", "work", {}, "c1")],
};
const keyed = { headers: { "Idempotency-Key": "key-1" } };
const clientAt = (url: string) => clientOf(url, ADMIN_KEY, { project: "default" });
const send = (url: string, more = {}) => clientAt(url).responses.create({ ...body, ...more }, keyed);
/** What the tool did by then goes out before the end, so that the caller has seen a beginning. */
const stream = (url: string, more = {}) =>
  clientAt(url)
    .responses.stream({ ...body, ...more }, keyed)
    .finalResponse();
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "done",
    ({ status, code }: { status: number; code: string }) => `${status} ${code}`,
  );

/** The next process, as it is so long after the dead one. */
async function later(ms: number, ask: (url: string) => Promise<void>): Promise<void> {
  const running = await startHere(parseConfig(env()), {
    log: () => {},
    clock: {
      now: () => Date.now() + ms,
      sleep: (wait) => new Promise((resolve) => setTimeout(resolve, wait)),
    },
  });
  try {
    await ask(running.url);
  } finally {
    await running.stop();
  }
}

test.each([
  ["one body", send, {}],
  ["streamed, with store:false", stream, { store: false }],
] as const)(
  "killed while the tool runs (%s): it is said that nobody knows, and nothing runs again under the key",
  async (_, ask, more) => {
    const { pid } = broker;
    during = () => {
      process.kill(pid, "SIGKILL");
    };
    await expect(ask(broker.url, more)).rejects.toThrow();
    await broker.exited;
    during = () => {};
    await later(61_000, async (url) => {
      for (let again = 0; again < 3; again++)
        expect(await codeOf(ask(url, more))).toBe("409 idempotency_outcome_unknown");
    });
    expect(runs).toBe(1);
  },
  STARTS_MS,
);

test(
  "killed before anything was done: the request runs under its key, once",
  async () => {
    // As if it died here: the response's id, which comes before all else, is not written, nor is the key given back.
    const database = new Database(join(folder, "consentry.db"));
    database.exec(`create trigger dies before update on idempotency begin select raise(abort, 'died'); end;
    create trigger died before delete on idempotency begin select raise(abort, 'died'); end`);
    await expect(send(broker.url)).rejects.toThrow();
    await broker.kill9();
    database.exec("drop trigger dies; drop trigger died");
    expect(database.prepare("select status, response_id from idempotency").all()).toEqual([
      { status: "running", response_id: null },
    ]);
    database.close();
    expect(runs).toBe(0);
    await later(61_000, async (url) => {
      const [first, again] = [await send(url), await send(url)];
      expect(itemsOf(first, "mcp_call")).toMatchObject([{ output: "worked" }]);
      expect(again.id).toBe(first.id);
    });
    expect(runs).toBe(1);
  },
  STARTS_MS,
);

test(
  "killed after the answer: the next process gives the same",
  async () => {
    const first = await send(broker.url);
    await broker.kill9();
    broker = await startBroker(env());
    expect(await send(broker.url)).toEqual(first);
    expect(runs).toBe(1);
  },
  STARTS_MS,
);
