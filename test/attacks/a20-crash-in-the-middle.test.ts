// A20 from outside: what is left when the process is gone, or the authorization server's answer is, right in the middle.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { parseConfig } from "../../src/config.ts";
import { start as startHere } from "../../src/node.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { allow, beginAuthorization, consentsOf, linkOf, person, visit } from "../helpers/people.ts";
import { freePort } from "../helpers/ports.ts";
import { type BrokerProcess, startBroker } from "../helpers/process.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { ADMIN_KEY, call, clientOf, itemsOf } from "../helpers/world.ts";

const TWO_HOURS_MS = 2 * 60 * 60_000;
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

/** As it will be in two hours: what is kept of the grant is older, and its token over. The server takes new ones still. */
const ageGrant = () => {
  const database = new Database(join(folder, "consentry.db"));
  const { changes } = database
    .prepare("update grants set created_at = created_at - ?, expires_at = expires_at - ?")
    .run(TWO_HOURS_MS, TWO_HOURS_MS);
  database.close();
  if (changes !== 1) throw new Error(`${changes} grants`);
};

/**
 * Holds the database so that nobody can write from the next token request on, and ends the broker once the authorization
 * server has answered: between the answer and the commit.
 */
async function killBeforeCommit(type: string, begin: () => unknown): Promise<void> {
  authServer.knobs.tokenLatencyMs = 200;
  const before = exchanges(type);
  const answered = authServer.countTokenAnswers();
  void begin();
  while (exchanges(type) === before) await wait(5);
  const database = new Database(join(folder, "consentry.db"));
  database.exec("BEGIN IMMEDIATE");
  while (authServer.countTokenAnswers() === answered) await wait(5);
  // Long enough to read the answer. It is not committed, however long it takes.
  await wait(200);
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
  await connect();
  ageGrant();
  await killBeforeCommit("refresh_token", () => whoami().catch(() => null));
  expect(exchanges("refresh_token")).toBe(1);
  // A later process, after the dead one's lease.
  const later = await startHere(parseConfig(env), {
    log: () => {},
    clock: {
      now: () => Date.now() + 120_000,
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
