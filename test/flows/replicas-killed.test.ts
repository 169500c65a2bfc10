// Three processes on a PostgreSQL of their own: one of them dies at the worst moment, or the database does, and the others go on.
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { start as startHere } from "../../src/node.ts";
import { readMigrations } from "../../src/store/migrate.node.ts";
import { systemClock } from "../../src/system-clock.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { allow, consentsOf, linkOf, person } from "../helpers/people.ts";
import { type Cluster, startCluster } from "../helpers/postgres-cluster.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { type Replica, type Replicas, startReplicas } from "../helpers/replicas.ts";
import { call, clientOf, itemsOf, ADMIN_KEY } from "../helpers/world.ts";

const hasPostgres = inject("postgresUrl") !== "";
const START_MS = 120_000;
let cluster: Cluster;
let authServer: TestAuthServer;
let server: ProtectedServer;
let work: ModernServer;
let replicas: Replicas;
/** What the tool `work` does before it answers. */
let during: () => Promise<void> | void = () => {};
/** Which calls of `work` ran, by what they were told. */
const ran: string[] = [];

beforeAll(async () => {
  if (!hasPostgres) return;
  cluster = await startCluster({ durable: true });
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  const tool = {
    name: "work",
    inputSchema: schemaOf({ text: { type: "string" } }, ["text"]),
    run: async ({ text }: Record<string, unknown>) => {
      ran.push(String(text));
      await during();
      return say(`did ${String(text)}`);
    },
  };
  work = await startModernServer({ tools: [tool] });
  replicas = await startReplicas(3, { databaseUrl: cluster.url });
  await replicas.connect("work", { target: work.url, timeoutMs: 1_000 });
}, START_MS);
afterAll(async () => {
  await replicas?.stop();
  await work?.stop();
  await server?.stop();
  await authServer?.stop();
  await cluster?.stop();
});

const at = (place: number): Replica => {
  const replica = replicas.all[place % replicas.all.length];
  if (!replica) throw new Error("no replica");
  return replica;
};
const mcp = (label: string, require_approval: "always" | "never" = "never") => ({
  type: "mcp" as const,
  server_label: label,
  require_approval,
});
const refreshes = () => authServer.countTokenRequests("refresh_token");
const outputs = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);

/** A connection with a grant whose token has ended; the next one holds for an hour. */
async function expired(name: string) {
  await replicas.connect(name, { authType: "OAuth2", target: server.url, credentials: {} });
  authServer.knobs.accessTokenSeconds = 1;
  const ann = replicas.client({ user: "ann" });
  await allow(person(authServer, "ann"), linkOf(await ann.responses.create({ tools: [mcp(name)] })));
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  authServer.knobs.accessTokenSeconds = 3600;
  return (url?: string) =>
    replicas.client({ user: "ann", at: url }).responses.create({
      tools: [mcp(name)],
      input: [call(name, "whoami", {})],
      store: false,
    });
}

/** With a connection to the database. */
async function inDatabase<T>(ask: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: cluster.url });
  await client.connect();
  try {
    return await ask(client);
  } finally {
    await client.end();
  }
}

test.skipIf(!hasPostgres)("three processes that start at once make the database once", async () => {
  const counts = await inDatabase(async (client) => {
    const count = async (table: string) =>
      Number((await client.query(`select count(*) as n from ${table}`)).rows[0]?.n);
    return [await count("schema_migrations"), await count("projects"), await count("keys")];
  });
  const folder = join(import.meta.dirname, "../../drizzle/pg");
  expect(counts).toEqual([readMigrations(folder).length, 1, 1]);
});

test.skipIf(!hasPostgres)(
  "two hundred calls across three processes at expiry: one refresh, two hundred successes",
  async () => {
    const whoami = await expired("notes");
    const before = refreshes();
    authServer.knobs.tokenLatencyMs = 300;
    const answers = await Promise.all(Array.from({ length: 200 }, () => whoami()));
    authServer.knobs.tokenLatencyMs = 0;
    expect(answers.flatMap(outputs)).toEqual(Array.from({ length: 200 }, () => "ann"));
    expect(refreshes()).toBe(before + 1);
  },
  START_MS,
);

test.skipIf(!hasPostgres)(
  "a refresher that died before it asked: when its lease is over, one of the others refreshes",
  async () => {
    const whoami = await expired("left");
    const before = refreshes();
    await inDatabase((client) =>
      client.query(
        "update grants set lease = 'w_of_the_dead', lease_until = $1 where connection_id = (select id from connections where name = 'left')",
        [Date.now() + 2_000],
      ),
    );
    const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => whoami(at(n).at)));
    expect(answers.flatMap(outputs)).toEqual(Array.from({ length: 30 }, () => "ann"));
    expect(refreshes()).toBe(before + 1);
  },
  START_MS,
);

test.skipIf(!hasPostgres)(
  "a refresher that dies after it has kept the new tokens: the others use them",
  async () => {
    const whoami = await expired("kept");
    const before = refreshes();
    const victim = at(0);
    const asked = whoami(victim.at).catch(() => null);
    const versionOf =
      "select g.version from grants g join connections c on c.id = g.connection_id where c.name = 'kept'";
    await inDatabase(async (client) => {
      while ((await client.query(versionOf)).rows[0]?.version === 1) continue;
    });
    await victim.kill9();
    await asked;
    expect(outputs(await whoami(at(1).at))).toEqual(["ann"]);
    expect(outputs(await whoami(at(2).at))).toEqual(["ann"]);
    expect(refreshes()).toBe(before + 1);
    await replicas.restart(0);
  },
  START_MS,
);

test.skipIf(!hasPostgres)(
  "a refresher that dies between the answer and the commit: the person is asked, once, wherever they come",
  async () => {
    const whoami = await expired("lost");
    const before = refreshes();
    authServer.knobs.tokenLatencyMs = 400;
    const victim = at(0);
    void whoami(victim.at).catch(() => null);
    while (refreshes() === before) await new Promise((resolve) => setTimeout(resolve, 5));
    await inDatabase(async (client) => {
      // Nobody writes grants from here on: the commit waits, and never comes.
      await client.query("begin");
      await client.query("lock table grants in share row exclusive mode");
      const waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock'";
      while ((await client.query(waiting)).rows.length === 0) continue;
      await victim.kill9();
      await client.query(`select pg_terminate_backend(pid) from (${waiting}) as w`);
      await client.query("rollback");
    });
    authServer.knobs.tokenLatencyMs = 0;
    expect(refreshes()).toBe(before + 1);
    // A replica after the dead one's lease.
    const later = await startHere(
      parseConfig({ ...replicas.env, CONSENTRY_PORT: "0", CONSENTRY_PUBLIC_URL: "" }),
      {
        log: () => {},
        clock: {
          now: () => Date.now() + 120_000,
          sleep: systemClock.sleep,
        },
      },
    );
    try {
      const asked = await Promise.all(Array.from({ length: 10 }, () => whoami(later.url)));
      expect(asked.every((answer) => consentsOf(answer).length === 1)).toBe(true);
      expect(refreshes()).toBe(before + 2);
    } finally {
      await later.stop();
    }
    const others = await Promise.all([whoami(at(1).at), whoami(at(2).at)]);
    expect(new Set(others.map(linkOf)).size).toBe(1);
    expect(refreshes()).toBe(before + 2);
    await replicas.restart(0);
    await allow(person(authServer, "ann"), linkOf(others[0] ?? { output: [] }));
    expect(outputs(await whoami(at(0).at))).toEqual(["ann"]);
  },
  START_MS,
);

test.skipIf(!hasPostgres)(
  "the database ends while new tokens are on their way: they are kept when it is back",
  async () => {
    const whoami = await expired("waited");
    const before = refreshes();
    authServer.knobs.tokenLatencyMs = 400;
    const asked = whoami(at(0).at);
    while (refreshes() === before) await new Promise((resolve) => setTimeout(resolve, 5));
    await cluster.halt("immediate");
    // Longer than a restart takes, shorter than a failover may.
    await new Promise((resolve) => setTimeout(resolve, 7_000));
    await cluster.resume();
    expect(outputs(await asked)).toEqual(["ann"]);
    authServer.knobs.tokenLatencyMs = 0;
    expect(outputs(await whoami(at(1).at))).toEqual(["ann"]);
    expect(refreshes()).toBe(before + 1);
  },
  START_MS,
);

/** A call of `work` that waits for an approval, asked at the first replica. */
async function held(text: string) {
  const asked = await replicas
    .client({ at: at(0).at })
    .responses.create({ tools: [mcp("work", "always")], input: [call("work", "work", { text }, text)] });
  const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
  const approve = (place: number) =>
    clientOf(at(place).at, ADMIN_KEY, { project: "default" }).responses.create({
      previous_response_id: asked.id,
      input: [{ type: "mcp_approval_response", approval_request_id: id, approve: true }],
    });
  return { id, approve };
}
const runsOf = (text: string) => ran.filter((one) => one === text).length;

test.skipIf(!hasPostgres)(
  "an approver that dies: decided and not run, another one runs it; run, nobody runs it again",
  async () => {
    const decided = await held("decided");
    const path = `/api/projects/default/approvals/${decided.id}:decide`;
    expect((await replicas.rest("POST", path, { approve: true }, at(0).at)).status).toBe(200);
    const finished = await held("finished");
    expect(outputs(await finished.approve(0))).toEqual(["did finished"]);
    const interrupted = await held("interrupted");
    const { pid } = at(0);
    during = () => {
      during = () => {};
      process.kill(pid, "SIGKILL");
    };
    await expect(interrupted.approve(0)).rejects.toThrow();
    await at(0).exited;

    const [first, second] = await Promise.all([decided.approve(1), decided.approve(2)]);
    expect([...outputs(first), ...outputs(second)]).toEqual(["did decided"]);
    expect(outputs(await finished.approve(1))).toEqual([]);
    const told = await interrupted.approve(2);
    expect(JSON.stringify(itemsOf(told, "mcp_call"))).toContain("may have run");
    expect(["decided", "finished", "interrupted"].map(runsOf)).toEqual([1, 1, 1]);
    await replicas.restart(0);
  },
  START_MS,
);

test.skipIf(!hasPostgres)(
  "the database ends while an approved call runs: what came of it is kept when it is back",
  async () => {
    const waiting = await held("outlived");
    during = () => {
      during = () => {};
      return cluster.halt("immediate");
    };
    const approving = waiting.approve(0);
    await expect.poll(() => runsOf("outlived"), { timeout: 20_000 }).toBe(1);
    await expect
      .poll(() => fetch(`${at(1).at}/readyz`).then(({ status }) => status), { timeout: 20_000 })
      .toBe(503);
    await cluster.resume();
    expect(outputs(await approving)).toEqual(["did outlived"]);
    expect((await waiting.approve(1)).output_text).toContain("already decided");
    expect(runsOf("outlived")).toBe(1);
  },
  START_MS,
);

test.skipIf(!hasPostgres)(
  "the database ends and comes back under load: clear refusals, no wrong answer, nothing run twice, and nobody is restarted",
  async () => {
    let over = false;
    const answered: { text: string; output: string | null }[] = [];
    const refused: string[] = [];
    const ready = () =>
      Promise.all(replicas.all.map((replica) => fetch(`${replica.at}/readyz`).then(({ status }) => status)));
    const worker = async (place: number) => {
      const client = replicas.client({ at: at(place).at });
      for (let n = 0; !over; n++) {
        const text = `load-${place}-${n}`;
        const body = { tools: [mcp("work")], input: [call("work", "work", { text })] };
        // Sent again, as clients do, until it is answered.
        for (let isAnswered = false; !isAnswered;) {
          await client.responses.create(body, { headers: { "Idempotency-Key": text } }).then(
            (answer) => {
              isAnswered = true;
              answered.push({ text, output: outputs(answer)[0] ?? null });
            },
            (error: { status?: number; message: string }) => refused.push(`${error.status} ${error.message}`),
          );
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    };
    const load = Promise.all(Array.from({ length: 6 }, (_, place) => worker(place)));
    const reaches = async (list: readonly unknown[], length: number) => {
      await expect.poll(() => list.length, { timeout: 30_000 }).toBeGreaterThanOrEqual(length);
    };
    await reaches(answered, 20);
    await cluster.halt("immediate");
    await reaches(refused, 12);
    expect(await ready()).toEqual([503, 503, 503]);
    const before = answered.length;
    await cluster.resume();
    await reaches(answered, before + 20);
    over = true;
    await load;
    // A call that was under way may have failed, but nobody is told anything that is not so.
    const wrong = answered.filter(({ text, output }) => output !== null && output !== `did ${text}`);
    expect(wrong).toEqual([]);
    const unclear = refused.filter(
      (one) => !one.includes("Not available right now: database.") && !one.includes("still runs"),
    );
    expect(unclear).toEqual([]);
    expect(answered.filter(({ text }) => runsOf(text) !== 1)).toEqual([]);
    expect(await ready()).toEqual([200, 200, 200]);
  },
  START_MS,
);
