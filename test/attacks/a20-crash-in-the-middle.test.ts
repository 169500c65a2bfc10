// A20 from outside: what is left when the process is gone, or the authorization server's answer is, right in the middle.
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { parseConfig } from "../../src/config.ts";
import { start as startHere } from "../../src/node.ts";
import { startAuthServer, type TestAuthServer, type TokenMishap } from "../helpers/auth-server.ts";
import { allow, beginAuthorization, consentsOf, linkOf, person, visit } from "../helpers/people.ts";
import { type BrokerProcess, startBroker } from "../helpers/process.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { ADMIN_KEY, call, clientOf, itemsOf } from "../helpers/world.ts";

let folder: string;
let env: Record<string, string>;
let authServer: TestAuthServer;
let server: ProtectedServer;
let broker: BrokerProcess;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-crash-"));
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  env = {
    CONSENTRY_PORT: String(await freePort()),
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_ADMIN_KEY: ADMIN_KEY,
  };
  broker = await startBroker(env);
  await fetch(`${broker.url}/api/projects/default/connections/notes`, {
    method: "PUT",
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
    body: JSON.stringify({
      properties: { authType: "OAuth2", category: "RemoteTool", target: server.url, credentials: {} },
    }),
  });
});
afterEach(async () => {
  await broker.kill9();
  await server.stop();
  await authServer.stop();
  await rm(folder, { recursive: true, force: true });
});

const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const clientAt = (url: string) => clientOf(url, ADMIN_KEY, { project: "default", user: "ann" });
const whoami = (url = broker.url) =>
  clientAt(url).responses.create({ tools, input: [call("notes", "whoami", {})] });
const exchanges = (type: string) => authServer.countTokenRequests(type);
const connect = async () => {
  const asked = await clientAt(broker.url).responses.create({ tools });
  expect(headingOf(await allow(person(authServer, "ann"), linkOf(asked)))).toContain("Connected");
};

/**
 * Holds the database so that nobody can write from the next token request on, and ends the broker once the authorization
 * server has answered: between the answer and the commit.
 */
async function killBeforeCommit(type: string, begin: () => unknown): Promise<void> {
  authServer.knobs.tokenLatencyMs = 400;
  const before = exchanges(type);
  void begin();
  while (exchanges(type) === before) await wait(5);
  const database = new Database(join(folder, "consentry.db"));
  database.exec("BEGIN IMMEDIATE");
  await wait(900);
  await broker.kill9();
  database.exec("ROLLBACK");
  database.close();
  authServer.knobs.tokenLatencyMs = 0;
}

test("killed between the answer to a code and the commit: the link works again, and ends in a grant", async () => {
  const link = linkOf(await whoami());
  const { cookie, authorizationUrl } = await beginAuthorization(link);
  const callback = await authServer.authorize(authorizationUrl.href, "ann");
  await killBeforeCommit("authorization_code", () => visit(callback, cookie).catch(() => null));
  broker = await startBroker(env);
  const asked = await whoami();
  expect(linkOf(asked)).toBe(link);
  // The same browser: it is the person's.
  const page = await visit(link, cookie);
  const csrf = /name="csrf" value="([^"]+)"/.exec(page.text)?.[1] ?? "";
  const again = await fetch(link, {
    method: "POST",
    redirect: "manual",
    headers: { cookie, origin: broker.url },
    body: new URLSearchParams({ action: "allow", csrf }),
  });
  const second = await authServer.authorize(again.headers.get("location") ?? "", "ann");
  expect((await visit(second, cookie)).text).toContain("Connected");
  expect(itemsOf(await whoami(), "mcp_call")).toMatchObject([{ output: "ann" }]);
});

test("killed between the answer to a refresh and the commit: the person is asked cleanly, and the dead token is never shown again", async () => {
  authServer.knobs.accessTokenSeconds = 1;
  await connect();
  await wait(1_100);
  await killBeforeCommit("refresh_token", () => whoami().catch(() => null));
  expect(exchanges("refresh_token")).toBe(1);
  // A later process, after the dead one's lease.
  const later = await startHere(parseConfig(env), {
    log: () => {},
    clock: {
      now: () => Date.now() + 60_000,
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    },
  });
  try {
    const answers = await Promise.all(Array.from({ length: 10 }, () => whoami(later.url)));
    expect(answers.every((answer) => consentsOf(answer).length === 1)).toBe(true);
    // The one try that tells whether the token is dead: it was rotated, so it is.
    expect(exchanges("refresh_token")).toBe(2);
    for (let again = 0; again < 3; again++) expect(consentsOf(await whoami(later.url))).toHaveLength(1);
    expect(exchanges("refresh_token")).toBe(2);
  } finally {
    await later.stop();
  }
});

test.each<[TokenMishap, number]>([
  ["error", 503],
  ["malformed_json", 503],
])(
  "the token endpoint answers with %s: a failed call, not a question to the person",
  async (mishap, code) => {
    authServer.knobs.accessTokenSeconds = 1;
    await connect();
    await wait(1_100);
    authServer.mishaps.push(mishap, mishap);
    const answer = await whoami();
    expect(consentsOf(answer)).toEqual([]);
    expect(itemsOf(answer, "mcp_call")).toMatchObject([
      { status: "failed", error: { type: "http_error", code } },
    ]);
  },
);

test("a malformed id_token and a missing token_type on refresh lose nothing", async () => {
  authServer.knobs.accessTokenSeconds = 1;
  await connect();
  for (const mishap of ["malformed_id_token", "no_token_type"] as const) {
    await wait(2_100);
    authServer.mishaps.push(mishap);
    expect(itemsOf(await whoami(), "mcp_call")).toMatchObject([{ output: "ann" }]);
  }
  await wait(2_100);
  expect(itemsOf(await whoami(), "mcp_call")).toMatchObject([{ output: "ann" }]);
  expect(exchanges("refresh_token")).toBe(3);
});

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
