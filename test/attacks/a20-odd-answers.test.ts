// A20: answers that come too late, twice, or over before they are there; and answers of our own database that are lost.
import { setTimeout as wait } from "node:timers/promises";
import type OpenAI from "openai";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BrokerError } from "../../src/core/errors.ts";
import type { GrantKey, Grants } from "../../src/core/grants.ts";
import { connectOdd, finishOdd, type OddServer, startOddServer } from "../helpers/odd-server.ts";
import { consentsOf, linkOf } from "../helpers/people.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const HOUR = 61 * 60_000;
let world: TestWorld;
let server: OddServer;
let ann: OpenAI;

beforeEach(async () => {
  server = await startOddServer();
  world = await createWorld();
  await connectOdd(world, server);
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
});

const tools = [{ type: "mcp" as const, server_label: "odd", require_approval: "never" as const }];
const whoami = (signal?: AbortSignal) =>
  ann.responses.create({ tools, input: [call("odd", "whoami", {})] }, { ...(signal && { signal }) });
const outputs = (response: Awaited<ReturnType<typeof whoami>>) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);
const connect = async () => {
  const page = await finishOdd(linkOf(await whoami()));
  if (!page.text.includes("Connected")) throw new Error(page.text);
};
const keyOf = async (): Promise<GrantKey> => {
  const record = await world.world.store.connections.get("default", "odd");
  if (!record) throw new Error("no connection");
  return { project: "default", connectionId: record.connection.id, user: "app:ann" };
};

test.each([
  { expiresIn: 0, tokenLatencyMs: 0 },
  { expiresIn: 1, tokenLatencyMs: 1_200 },
])(
  "tokens that are over when they come ($expiresIn s, after $tokenLatencyMs ms): one refresh for a call",
  async (ways) => {
    await connect();
    Object.assign(server.ways, ways);
    world.advance(HOUR);
    const before = server.tokens.length;
    expect(outputs(await whoami())).toEqual([expect.stringMatching(/^Bearer a\d+$/)]);
    expect(server.tokens.length - before).toBe(1);
  },
);

test("a refresh of another replica that does not end: two hundred callers here look as often as one", async () => {
  await connect();
  world.advance(HOUR);
  const { grants } = world.world.store;
  const key = await keyOf();
  const { version } = (await grants.get(key)) ?? { version: 0 };
  const now = world.world.clock.now();
  await grants.lease({ key, version, lease: "w_another", leaseUntil: now + 40_000, now });
  const counted = countCalls(grants, ["get", "lease"]);
  const gone = new AbortController();
  const calls = Array.from({ length: 200 }, () => whoami(gone.signal).catch(() => null));
  await wait(3_000);
  gone.abort();
  await Promise.all(calls);
  expect(counted["lease"]).toBe(0);
  // One for each caller, and those of the one that looks.
  expect(counted["get"]).toBeLessThan(400);
});

test("a commit that counted, its answer lost: the tokens stay good, here and there", async () => {
  const { grants } = world.world.store;
  const { put } = grants;
  let puts = 0;
  grants.put = async (...args) => {
    const kept = await put(...args);
    if (++puts === 1) throw new BrokerError("unavailable", { what: "database" });
    return kept;
  };
  await connect();
  expect(puts).toBe(2);
  expect(server.revoked).toEqual([]);
  world.advance(HOUR);
  expect(outputs(await whoami())).toEqual(["Bearer a2"]);
});

test("what comes for a grant that was taken back during its refresh is given back, too", async () => {
  await connect();
  server.ways.tokenLatencyMs = 500;
  world.advance(HOUR);
  const running = whoami();
  while (server.tokens.length < 2) await wait(5);
  await world.rest("DELETE", "/api/projects/default/connections/odd/grants/ann");
  expect(consentsOf(await running)).toHaveLength(1);
  expect(new Set(server.revoked)).toEqual(new Set(["r1", "r2"]));
});

test("a server that wants ever more scopes is given up after a few questions", async () => {
  await connect();
  let asked = 0;
  for (; asked < 10; asked++) {
    server.ways.insufficient = `scope-${asked}`;
    const answer = await whoami();
    if (consentsOf(answer).length === 0) break;
    await finishOdd(linkOf(answer));
  }
  expect(asked).toBe(5);
});

test("an open question does not grow without end", async () => {
  await connect();
  for (let call = 0; call < 12; call++) {
    server.ways.insufficient = Array.from({ length: 30 }, (_, at) => `scope-${call}-${at}`).join(" ");
    await whoami();
  }
  const [consent] = await world.world.store.consents.since(await keyOf(), 0);
  expect(consent?.status).toBe("open");
  expect(consent?.scopes?.length).toBe(90);
});

/** How often these were called from now on. */
function countCalls(grants: Grants, names: ("get" | "lease")[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) {
    counts[name] = 0;
    const real = grants[name] as (...args: unknown[]) => unknown; // Seam: called as it is.
    Object.assign(grants, {
      [name]: (...args: unknown[]) => {
        counts[name] = (counts[name] ?? 0) + 1;
        return real(...args);
      },
    });
  }
  return counts;
}
