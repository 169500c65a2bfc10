// The door of Workers, called by name, on a database in workerd: what it does before it serves, and whom it refuses.
import { afterEach, expect, test, vi } from "vitest";
import journal from "../../drizzle/sqlite/meta/_journal.json" with { type: "json" };
import { createD1Engine, type D1 } from "../../src/store/d1.ts";
import { createStore } from "../../src/store/store.ts";
import { RIGHTS, ROLES } from "../../src/core/identity.ts";
import { createWebCrypto } from "../../src/secrets/crypto.web.ts";
import worker from "../../src/worker.ts";
import { createD1, migrateD1 } from "../helpers/d1.ts";
import { startModernServer } from "../helpers/mcp-servers.ts";
import { ADMIN_KEY, call } from "../helpers/world.ts";
import { migrations } from "../store/engines.ts";

const URL_HERE = "https://broker.example.com";
afterEach(() => vi.restoreAllMocks());

/** A Worker with these settings. `applied`: what wrangler has noted down. */
async function createTest(settings: Record<string, unknown> = {}, applied: "all" | "nothing" = "all") {
  const lines: string[] = [];
  for (const level of ["info", "warn", "error"] as const)
    vi.spyOn(console, level).mockImplementation((line: string) => void lines.push(line));
  const d1 = await createD1();
  if (applied === "all") await migrate(d1);
  const bindings = {
    DB: d1,
    CONSENTRY_PUBLIC_URL: URL_HERE,
    CONSENTRY_ADMIN_KEY: ADMIN_KEY,
    CONSENTRY_KEYRING: `k1:${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64")}`,
    CONSENTRY_EGRESS_ALLOW: "mcp.example.com",
    ...settings,
  };
  const kept: Promise<unknown>[] = [];
  const life = { waitUntil: (work: Promise<unknown>) => void kept.push(work) };
  const send = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const { origin } = new URL(String(bindings.CONSENTRY_PUBLIC_URL));
    const init = {
      method,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    };
    const answer = await worker.fetch(new Request(`${origin}${path}`, init), bindings, life);
    return { status: answer.status, text: await answer.text() };
  };
  return { d1, bindings, send, life, kept, lines };
}

/** Of another isolate: what its bindings are known by is its own. */
const sameDatabase = (d1: D1): D1 => ({ prepare: d1.prepare.bind(d1), batch: d1.batch.bind(d1) });

async function migrate(d1: D1): Promise<void> {
  await migrateD1(d1, migrations.sqlite);
  await d1.prepare("create table d1_migrations (id integer primary key, name text unique)").all();
  for (const { tag } of journal.entries) await note(d1, tag);
}

const note = (d1: D1, name: string) =>
  d1.prepare("insert into d1_migrations (name) values (?)").bind(`${name}.sql`).all();

test("without its migrations it serves nothing and says which it lacks; with them it does, without a new start", async () => {
  const { send, d1 } = await createTest({}, "nothing");
  for (const path of ["/readyz", "/api/projects"]) {
    const { status, text } = await send("GET", path);
    expect([status, text]).toEqual([503, expect.stringContaining("lacks 0000_start, 0001_signing_keys")]);
  }
  await migrate(d1);
  expect((await send("GET", "/readyz")).status).toBe(200);
});

test("a database that is newer is not ready, and is served from until the new version is deployed", async () => {
  const { send, d1 } = await createTest();
  await note(d1, "9999_later");
  expect(await send("GET", "/readyz")).toEqual({
    status: 503,
    text: expect.stringContaining("newer than this version (9999_later)"),
  });
  expect((await send("GET", "/api/projects")).status).toBe(200);
});

test("with settings that Workers do not have everything is refused, and the log alone says why", async () => {
  const { send, lines } = await createTest({
    CONSENTRY_TLS: "development",
    CONSENTRY_EGRESS_ALLOW: "*",
    CONSENTRY_KEYRING: "file:./canary",
  });
  const { status, text } = await send("GET", "/healthz");
  expect([status, text]).toEqual([503, expect.not.stringMatching(/CONSENTRY_|canary/)]);
  expect(lines[0]).toMatch(/CONSENTRY_TLS is not for Workers.*CONSENTRY_EGRESS_ALLOW must name hosts/);
  expect(lines.join()).not.toContain("canary");
});

test("without its database it says so, in the log", async () => {
  const { send, lines } = await createTest({ DB: undefined });
  expect((await send("GET", "/readyz")).status).toBe(503);
  expect(lines[0]).toContain("DB is required");
});

test("off loopback the key is an operator's, and one broker is made however many ask at once", async () => {
  const { send, d1, lines } = await createTest();
  const answers = await Promise.all(Array.from({ length: 20 }, () => send("GET", "/api/projects")));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  const { results } = await d1.prepare("select name from projects").all();
  expect(results).toEqual([{ name: "default" }]);
  expect((await send("POST", "/v1/responses", { input: "x" })).status).toBe(403);
  expect(lines.join()).not.toContain(ADMIN_KEY);
});

test("the admin key is the one of the isolate's own settings, whatever an older version's isolate does or has left behind", async () => {
  const former = await createTest();
  expect((await former.send("GET", "/api/projects")).status).toBe(200);
  // Another identity of the same database: another isolate.
  const newer = {
    ...former.bindings,
    DB: sameDatabase(former.d1),
    CONSENTRY_ADMIN_KEY: crypto.randomUUID().repeat(2),
  };
  const older = { ...former.bindings, DB: sameDatabase(former.d1) };
  const asks = async (bindings: typeof newer, key: string) => {
    const headers = { authorization: `Bearer ${key}` };
    const answer = await worker.fetch(
      new Request(`${URL_HERE}/api/projects`, { headers }),
      bindings,
      former.life,
    );
    return answer.status;
  };
  expect(await asks(newer, newer.CONSENTRY_ADMIN_KEY)).toBe(200);
  expect(await asks(older, ADMIN_KEY)).toBe(200);
  expect(await asks(newer, ADMIN_KEY)).toBe(401);
  expect(await asks(newer, newer.CONSENTRY_ADMIN_KEY)).toBe(200);
  expect(await asks(older, newer.CONSENTRY_ADMIN_KEY)).toBe(401);
});

test("a row for the operator's key in the database, as brokers on Node write it, lets nobody in", async () => {
  const { d1, send } = await createTest();
  const key = crypto.randomUUID().repeat(2);
  const store = createStore(createD1Engine(d1));
  const hash = await createWebCrypto().sha256(key);
  const roles = [...ROLES];
  const rest = { project: null, name: "bootstrap", principal: "key:bootstrap", rights: [...RIGHTS] };
  const times = { createdAt: 1, expiresAt: null, confirmUrl: null, doneUrl: null };
  await store.keys.putBootstrap({ id: "key_bootstrap", hash, roles, ...rest, ...times });
  expect((await send("GET", "/api/projects", undefined, { authorization: `Bearer ${key}` })).status).toBe(
    401,
  );
  expect((await send("GET", "/api/projects")).status).toBe(200);
});

test("who comes by http is sent to https, where nothing has been done yet", async () => {
  const { bindings, life, d1 } = await createTest();
  const path = "/api/projects/default/connections/conn?api-version=v1";
  const init = { method: "DELETE", headers: { authorization: `Bearer ${ADMIN_KEY}` } };
  const request = new Request(`http://broker.example.com${path}`, init);
  const answer = await worker.fetch(request, bindings, life);
  expect([answer.status, answer.headers.get("location")]).toEqual([301, `${URL_HERE}${path}`]);
  expect((await d1.prepare("select id from audit").all()).results).toEqual([]);
});

test("A10: nobody is called whom the operator did not name", async () => {
  const { send } = await createTest();
  const connect = (target: string) =>
    send("PUT", "/api/projects/default/connections/conn", {
      properties: { category: "RemoteTool", authType: "None", target },
    });
  for (const target of [
    "https://other.example.com/mcp",
    "https://127.0.0.1/mcp",
    "https://[::ffff:127.0.0.1]/mcp",
    "https://169.254.169.254/mcp",
    "https://metadata.google.internal/mcp",
    "https://mcp.example.com.evil.test/mcp",
    "http://mcp.example.com/mcp",
    `${URL_HERE}/mcp`,
  ])
    expect([target, (await connect(target)).status]).toEqual([target, 400]);
  expect((await connect("https://other.example.com/mcp")).text).toContain(
    "add other.example.com to CONSENTRY_EGRESS_ALLOW",
  );
  expect(await connect("https://mcp.example.com/mcp")).toMatchObject({ status: 200 });
});

test("A18: a name that merely leads here is refused, and a page of another site", async () => {
  const { bindings, life, send } = await createTest();
  const rebound = new Request("https://rebound.example/api/projects");
  expect((await worker.fetch(rebound, bindings, life)).status).toBe(403);
  expect((await send("GET", "/api/projects", undefined, { origin: "https://evil.example" })).status).toBe(
    403,
  );
});

test("strangers are counted by the address that Cloudflare gives, and no other", async () => {
  const { send } = await createTest({ CONSENTRY_RATE_LIMIT_ADDRESS: "2" });
  const knock = (headers: Record<string, string>) =>
    send("GET", "/api/projects", undefined, { authorization: "Bearer wrong", ...headers });
  for (const forwarded of ["192.0.2.1", "192.0.2.2"])
    await knock({ "cf-connecting-ip": "198.51.100.7", "x-forwarded-for": forwarded });
  expect((await knock({ "cf-connecting-ip": "198.51.100.7", "x-forwarded-for": "192.0.2.3" })).status).toBe(
    429,
  );
  expect((await knock({ "cf-connecting-ip": "198.51.100.8" })).status).toBe(401);
});

test("all that a request begins keeps its life until it has ended", async () => {
  const { send, kept } = await createTest();
  await send("GET", "/api/projects");
  expect(kept.length).toBeGreaterThan(0);
  await Promise.all(kept);
});

test("what is left to do when a reader leaves its stream is kept, too: the call is cancelled and the response is stored", async () => {
  const server = await startModernServer();
  const { send, bindings, life, kept } = await createTest({
    CONSENTRY_PUBLIC_URL: "http://127.0.0.1:8787",
    CONSENTRY_EGRESS_ALLOW: "loopback",
  });
  const properties = { category: "RemoteTool", authType: "None", target: server.url };
  await send("PUT", "/api/projects/default/connections/notes", { properties });
  const body = {
    tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }],
    input: [call("notes", "slow", {})],
    stream: true,
  };
  const request = new Request("http://127.0.0.1:8787/v1/responses", {
    method: "POST",
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
    body: JSON.stringify(body),
  });
  const reader = (await worker.fetch(request, bindings, life)).body?.getReader();
  const created = new TextDecoder().decode((await reader?.read())?.value);
  const id = /"id":"(resp_[0-9a-f]+)"/.exec(created)?.[1];
  await Promise.all(kept.splice(0));
  void (async () => {
    while (!(await reader?.read())?.done);
  })().catch(() => {});
  await server.slow.started;
  await reader?.cancel();
  expect(kept.length).toBeGreaterThan(0);
  await server.slow.cancelled;
  await Promise.all(kept);
  const url = `http://127.0.0.1:8787/v1/responses/${id}`;
  const headers = { authorization: `Bearer ${ADMIN_KEY}` };
  expect((await worker.fetch(new Request(url, { headers }), bindings, life)).status).toBe(200);
  await server.stop();
});

test("the cron sweeps what no request waits for", async () => {
  const { bindings, life, lines, d1 } = await createTest();
  await worker.scheduled({}, bindings, life);
  expect(lines.filter((line) => line.includes("sweep_failed"))).toEqual([]);
  const store = createStore(createD1Engine(d1));
  const handle = { kind: "sign_in", hash: "h", project: "default", subject: "s", sealed: null } as const;
  await store.handles.put({ ...handle, browserHash: null, expiresAt: 1, createdAt: 1 }, []);
  await worker.scheduled({}, bindings, life);
  expect((await d1.prepare("select count(*) as left from handles").all()).results).toEqual([{ left: 0 }]);
});

test("metrics are nobody's here", async () => {
  expect((await (await createTest()).send("GET", "/metrics")).status).toBe(404);
});

test("a database that hung while the first request began, and that request's end, keep nobody from the broker", async () => {
  const { bindings, life, d1, send } = await createTest();
  let isStuck = true;
  const began = Promise.withResolvers<void>();
  const hang = () => {
    began.resolve();
    return new Promise<never>(() => {});
  };
  const stuck: D1 = {
    prepare: (query) => {
      const statement = d1.prepare(query);
      return isStuck ? { bind: statement.bind.bind(statement), all: hang } : statement;
    },
    batch: (statements) => d1.batch(statements),
  };
  bindings.DB = stuck;
  // Nothing of it goes on after its request: it never settles.
  void worker.fetch(new Request(`${URL_HERE}/readyz`), bindings, life);
  await began.promise;
  isStuck = false;
  const { now } = Date;
  vi.spyOn(Date, "now").mockImplementation(() => now() + 10_000);
  const answers = await Promise.all(["/readyz", "/readyz"].map((path) => send("GET", path)));
  expect(answers.map(({ status }) => status)).toEqual([200, 200]);
});
