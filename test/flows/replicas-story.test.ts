// Three processes on one PostgreSQL, behind a balancer that sends every request to another one than the request before: whatever
// one begins, another goes on with. Nothing here asks for the same replica twice.
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { headingOf, type Page } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { startHttpServer, type HttpServer } from "../helpers/http-server.ts";
import { allow, consentsOf, linkOf, person } from "../helpers/people.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { type Replicas, startReplicas } from "../helpers/replicas.ts";
import { call, clientOf, itemsOf, MODES, respond } from "../helpers/world.ts";

const hasPostgres = inject("postgresUrl") !== "";
const START_MS = 120_000;
const project = "/api/projects/default";
let authServer: TestAuthServer;
let server: ProtectedServer;
let application: HttpServer;
let replicas: Replicas;

beforeAll(async () => {
  if (!hasPostgres) return;
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  application = await startHttpServer((_, response) => response.end("<h1>the application</h1>"));
  replicas = await startReplicas(3, { databaseUrl: await createDatabase() });
  authServer.addRedirectUris(`${replicas.url}/signin/callback`);
}, START_MS);
afterAll(async () => {
  await replicas?.stop();
  await application?.stop();
  await server?.stop();
  await authServer?.stop();
});
const mcp = (label: string, require_approval: "always" | "never" = "never") => ({
  type: "mcp" as const,
  server_label: label,
  require_approval,
});
const connect = (name: string) =>
  replicas.connect(name, { authType: "OAuth2", target: server.url, credentials: {} });
const outputs = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);

test.skipIf(!hasPostgres).for(MODES)(
  "a consent: asked for, shown, allowed, come back to, and gone on with, each elsewhere (%s)",
  async (mode) => {
    const name = mode === "streamed" ? "notes-streamed" : "notes";
    await connect(name);
    const ann = replicas.client({ user: "ann" });
    const body = { tools: [mcp(name)], input: [call(name, "whoami", {}, "c1")] };
    const asked = await respond(ann, body, mode);
    expect(consentsOf(await respond(ann, body, mode))).toEqual(consentsOf(asked));
    const stored = await ann.responses.retrieve(asked.id);
    expect(linkOf(stored)).toBe(linkOf(asked));
    const page = await allow(person(authServer, "ann@provider"), linkOf(asked));
    expect(headingOf(page)).toContain("Connected");
    const resumed = await respond(ann, { previous_response_id: asked.id, input: [] }, mode);
    expect(outputs(resumed)).toEqual(["ann@provider"]);
    // Taken back on one, it is gone on all.
    expect((await replicas.rest("DELETE", `${project}/connections/${name}/grants/ann`)).status).toBeLessThan(
      300,
    );
    const again = await respond(ann, body, mode);
    expect(consentsOf(again)).toHaveLength(1);
    expect(linkOf(again)).not.toBe(linkOf(asked));
  },
);

test.skipIf(!hasPostgres).for(MODES)(
  "an approval: asked for, seen, decided and run, each elsewhere and once (%s)",
  async (mode) => {
    const name = mode === "streamed" ? "calls-streamed" : "calls";
    await connect(name);
    const ann = replicas.client({ user: "ann" });
    await allow(person(authServer, "ann"), linkOf(await ann.responses.create({ tools: [mcp(name)] })));
    const ask = (id: string) =>
      respond(ann, { tools: [mcp(name, "always")], input: [call(name, "whoami", {}, id)] }, mode);
    const answer = (asked: Awaited<ReturnType<typeof ask>>, approve: boolean) =>
      respond(
        ann,
        {
          previous_response_id: asked.id,
          input: itemsOf(asked, "mcp_approval_request").map(({ id }) => ({
            type: "mcp_approval_response" as const,
            approval_request_id: id,
            approve,
          })),
        },
        mode,
      );
    const calls = () => server.calls.length;
    const before = calls();

    const asked = await ask("c1");
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    const seen = await replicas.rest("GET", `${project}/approvals/${id}`);
    expect(seen.body).toMatchObject({ status: "pending" });
    const decided = await replicas.rest("POST", `${project}/approvals/${id}:decide`, { approve: true });
    expect(decided.body).toMatchObject({ status: "approved" });
    expect(outputs(await respond(ann, { previous_response_id: asked.id, input: [] }, mode))).toEqual(["ann"]);
    expect(outputs(await answer(asked, true))).toEqual([]);
    expect(calls()).toBe(before + 1);

    expect(outputs(await answer(await ask("c2"), true))).toEqual(["ann"]);
    expect(outputs(await answer(await ask("c3"), false))).toEqual([]);
    expect(calls()).toBe(before + 2);

    // Deleted on one, its pending call is cancelled on all.
    const pending = await ask("c4");
    await ann.responses.delete(pending.id);
    await expect(answer(pending, true)).rejects.toMatchObject({ status: 400 });
    expect(calls()).toBe(before + 2);
  },
);

test.skipIf(!hasPostgres)(
  "a sign-in that proves the person: begun, come back from and believed, each elsewhere",
  async () => {
    await connect("signed");
    const { clientId, clientSecret } = authServer.clients.post;
    const { issuer } = authServer;
    const settled = await replicas.rest("PATCH", `${project}/settings`, {
      consentProof: "sign-in",
      signIn: { name: "corp", issuer, clientId, clientSecret },
      users: { assertedAs: { issuer, claim: "sub" } },
    });
    expect(settled.status).toBe(200);
    const dora = replicas.client({ user: "dora" });
    const link = linkOf(await dora.responses.create({ tools: [mcp("signed")] }));
    const browser = person(authServer, "dora");
    const proven = await browser.press(await browser.open(link), "sign_in");
    expect(proven.html).toContain("You are signed in as");
    expect(headingOf(await browser.press(proven, "allow"))).toContain("Connected");
    const input = [call("signed", "whoami", {})];
    expect(outputs(await dora.responses.create({ tools: [mcp("signed")], input }))).toEqual(["dora"]);

    // Another person's browser is turned away wherever it comes.
    const erna = replicas.client({ user: "erna" });
    const hers = linkOf(await erna.responses.create({ tools: [mcp("signed")] }));
    const other = await browser.press(await browser.open(hers), "sign_in");
    expect(other.status).toBe(403);
  },
);

test.skipIf(!hasPostgres)(
  "a runtime's word for the person: code, confirmation and the way on, each elsewhere and once",
  async () => {
    await connect("worded");
    await replicas.rest("PATCH", `${project}/settings`, { consentProof: "runtime" });
    const made = await replicas.rest("POST", `${project}/keys`, {
      name: "web-app",
      roles: ["runtime"],
      rights: ["act_for_users"],
      confirmUrl: `${application.url}/confirm`,
    });
    const client = clientOf(replicas.url, String(made.body["key"]), { project: "default", user: "fay" });
    const browser = person(authServer, "fay");
    const away: Page = await browser.open(linkOf(await client.responses.create({ tools: [mcp("worded")] })));
    const code = new URL(away.url).searchParams.get("consent_code");
    const confirm = () =>
      fetch(`${replicas.url}${project}/consents:confirm`, {
        method: "POST",
        headers: { authorization: `Bearer ${made.body["key"]}`, "content-type": "application/json" },
        body: JSON.stringify({ code, user: "fay" }),
      });
    const confirmed = (await (await confirm()).json()) as { continue_url: string };
    expect((await confirm()).status).toBe(403);
    const shown = await browser.open(confirmed.continue_url);
    expect(headingOf(await browser.press(shown, "allow"))).toContain("Connected");
    const input = [call("worded", "whoami", {})];
    expect(outputs(await client.responses.create({ tools: [mcp("worded")], input }))).toEqual(["fay"]);

    const link = await replicas.rest("POST", `${project}/me-links`, { user: "fay" });
    const me = await browser.press(await browser.open(String(link.body["url"])));
    expect(me.html).toContain("worded");
    expect((await browser.press(me, "disconnect")).html).toContain("Nothing is connected.");
  },
);

test.skipIf(!hasPostgres)(
  "conversations, repeated requests, keys and people who are blocked: what one knows, all know",
  async () => {
    await replicas.rest("PATCH", `${project}/settings`, { consentProof: null });
    await connect("shared");
    const gil = replicas.client({ user: "gil" });
    await allow(person(authServer, "gil"), linkOf(await gil.responses.create({ tools: [mcp("shared")] })));
    const body = { tools: [mcp("shared")], input: [call("shared", "whoami", {}, "c1")] };

    const before = server.calls.length;
    const once = () => gil.responses.create(body, { headers: { "Idempotency-Key": "k" } });
    const first = await once();
    expect([(await once()).id, (await once()).id]).toEqual([first.id, first.id]);
    expect(server.calls.length).toBe(before + 1);

    const { id: conversation } = await gil.conversations.create();
    await gil.responses.create({ ...body, conversation });
    const items = await gil.conversations.items.list(conversation);
    expect(items.data.map(({ type }) => type)).toContain("mcp_call");

    const made = await replicas.rest("POST", `${project}/keys`, { name: "short", roles: ["admin"] });
    const whoami = () =>
      fetch(`${replicas.url}${project}/whoami`, { headers: { "api-key": String(made.body["key"]) } });
    expect((await whoami()).status).toBe(200);
    await replicas.rest("DELETE", `${project}/keys/${made.body["id"]}`);
    expect((await whoami()).status).toBe(401);

    await replicas.rest("DELETE", `${project}/users/gil`);
    await expect(gil.responses.create(body)).rejects.toMatchObject({ status: 403 });
    await replicas.rest("POST", `${project}/users/gil:restore`);
    expect(consentsOf(await gil.responses.create(body))).toHaveLength(1);
  },
);

test.skipIf(!hasPostgres)("and all the time no request went where the one before it had gone", () => {
  const { served, lost } = replicas.balancer;
  expect(lost).toEqual([]);
  expect(served.length).toBeGreaterThan(100);
  expect(served.filter((replica, at) => replica === served[at - 1])).toEqual([]);
  expect(new Set(served).size).toBe(3);
});
