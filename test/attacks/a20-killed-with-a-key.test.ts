// A20: the process is killed in the middle of a request that came with an Idempotency-Key (decision 0015).
import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { start as startHere } from "../../src/node.ts";
import { type Killed, startKilled } from "../helpers/killed.ts";
import { startBroker } from "../helpers/process.ts";
import { ADMIN_KEY, call, clientOf, itemsOf } from "../helpers/world.ts";

/** Two processes begin in it, on a machine that may be busy. */
const STARTS_MS = 90_000;

let killed: Killed;

beforeEach(async () => {
  killed = await startKilled();
});
afterEach(() => killed.stop());

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
  const running = await startHere(parseConfig({ ...killed.env, CONSENTRY_PORT: "0" }), {
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
    const { pid } = killed.broker;
    killed.during = () => {
      process.kill(pid, "SIGKILL");
    };
    await expect(ask(killed.broker.url, more)).rejects.toThrow();
    await killed.broker.exited;
    killed.during = () => {};
    await later(61_000, async (url) => {
      for (let again = 0; again < 3; again++)
        expect(await codeOf(ask(url, more))).toBe("409 idempotency_outcome_unknown");
    });
    expect(killed.runs).toBe(1);
  },
  STARTS_MS,
);

test(
  "killed before anything was done: the request runs under its key, once",
  async () => {
    // As if it died here: the response's id, which comes before all else, is not written, nor is the key given back.
    const database = new Database(killed.databasePath);
    database.exec(`create trigger dies before update on idempotency begin select raise(abort, 'died'); end;
    create trigger died before delete on idempotency begin select raise(abort, 'died'); end`);
    await expect(send(killed.broker.url)).rejects.toThrow();
    await killed.broker.kill9();
    database.exec("drop trigger dies; drop trigger died");
    expect(database.prepare("select status, response_id from idempotency").all()).toEqual([
      { status: "running", response_id: null },
    ]);
    database.close();
    expect(killed.runs).toBe(0);
    await later(61_000, async (url) => {
      const [first, again] = [await send(url), await send(url)];
      expect(itemsOf(first, "mcp_call")).toMatchObject([{ output: "worked" }]);
      expect(again.id).toBe(first.id);
    });
    expect(killed.runs).toBe(1);
  },
  STARTS_MS,
);

test(
  "killed after the answer: the next process gives the same",
  async () => {
    const first = await send(killed.broker.url);
    await killed.broker.kill9();
    killed.broker = await startBroker(killed.env);
    expect(await send(killed.broker.url)).toEqual(first);
    expect(killed.runs).toBe(1);
  },
  STARTS_MS,
);
