// A2: somebody has another person's connection filled with the attacker's own account, so that what is written goes there.
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import {
  allow,
  audited,
  beginAuthorization,
  linkOf,
  person,
  submit,
  type Underway,
  visit,
} from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let ann: OpenAI;
let mallory: OpenAI;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld({ env: { CONSENTRY_AUDIT: "sync" } });
  for (const name of ["notes", "mail"])
    await world.connect(name, { authType: "OAuth2", target: server.url, credentials: {} });
  ann = await world.runtime({ name: "the-app", user: "ann", rights: ["act_for_users"] });
  mallory = await world.runtime({ user: "mallory", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const tools = (label: string) => [
  { type: "mcp" as const, server_label: label, require_approval: "never" as const },
];
const ask = async (client: OpenAI, label = "notes") =>
  linkOf(await client.responses.create({ tools: tools(label) }));
const whoami = async (client: OpenAI) =>
  itemsOf(
    await client.responses.create({ tools: tools("notes"), input: [call("notes", "whoami", {})] }),
    "mcp_call",
  ).map(({ output }) => output);
const users = async () => {
  const { body } = await world.rest("GET", "/api/projects/default/connections/notes/grants");
  return (body["value"] as unknown as { user: string }[]).map(({ user }) => user);
};
const refusals = async () => (await audited(world, "consent_refused")).map(({ detail }) => detail["why"]);
const csrfOf = (html: string) => /name="csrf" value="([^"]+)"/.exec(html)?.[1] ?? "";
const callbackOf = ({ authorizationUrl }: Underway, account: string) =>
  authServer.authorize(authorizationUrl.href, account);
/** What a reader sees of a page. */
const wordsOf = (html: string) => html.replaceAll(/<[^>]*>/g, " ").replaceAll(/\s+/g, " ");

test("the page says whose account is asked for, by whom, at which server, and where to sign in", async () => {
  const { html } = await person(authServer, "ann").open(await ask(ann));
  const words = wordsOf(html);
  for (const said of [
    `Server to be used ${new URL(server.url).host}`,
    `You will sign in at ${new URL(authServer.issuer).host}`,
    "The application with the key the-app",
    "app:ann (project default",
    "read",
  ])
    expect(words).toContain(said);
});

describe("the way back belongs to the browser that pressed Allow", () => {
  test("the attacker's own callback does nothing in the browser of a person on the way", async () => {
    const [victim, attacker] = [
      await beginAuthorization(await ask(ann)),
      await beginAuthorization(await ask(mallory)),
    ];
    const theirs = await callbackOf(attacker, "mallory");
    expect((await visit(theirs, victim.cookie)).status).toBe(403);
    expect(await users()).toEqual([]);
    expect(authServer.tokenRequests).toEqual([]);
    expect((await visit(await callbackOf(victim, "ann"), victim.cookie)).status).toBe(200);
    expect(await whoami(ann)).toEqual(["ann"]);
    expect(await users()).toEqual(["app:ann"]);
  });

  test("a code of the attacker's under the person's own state is not exchanged for anything", async () => {
    const [victim, attacker] = [
      await beginAuthorization(await ask(ann)),
      await beginAuthorization(await ask(mallory)),
    ];
    const theirs = await callbackOf(attacker, "mallory");
    const mixed = await callbackOf(victim, "ann");
    mixed.searchParams.set("code", theirs.searchParams.get("code") ?? "");
    expect((await visit(mixed, victim.cookie)).text).toContain("was not connected");
    expect(await users()).toEqual([]);
    // The attacker's own way is not disturbed by it, and the person's ends with a new question.
    expect(await ask(ann)).toContain("/consent/");
  });
});

describe("a form counts only for its own consent, in its own browser", () => {
  const post = (link: string, cookie: string, csrf: string, origin?: string) =>
    submit(link, {
      cookie,
      form: { action: "allow", csrf },
      ...(origin !== undefined && { origin }),
    });

  test("with the token of another consent it is refused", async () => {
    const [notes, mail] = [await ask(ann, "notes"), await ask(ann, "mail")];
    const first = await visit(notes);
    const cookie = first.headers.getSetCookie()[0]?.split(";")[0] ?? "";
    const second = await visit(mail, cookie);
    const answer = await post(notes, cookie, csrfOf(second.text));
    expect([answer.status, answer.headers.get("location")]).toEqual([403, null]);
    expect(await refusals()).toEqual(["csrf"]);
    expect((await post(notes, cookie, csrfOf(first.text))).status).toBe(303);
  });

  test("with the token of another browser it is refused", async () => {
    const [notes, mail] = [await ask(ann, "notes"), await ask(ann, "mail")];
    const attacker = await visit(mail);
    const victim = await visit(notes);
    const cookie = victim.headers.getSetCookie()[0]?.split(";")[0] ?? "";
    for (const csrf of [csrfOf(attacker.text), "", "x".repeat(43)])
      expect((await post(notes, cookie, csrf)).status).toBe(403);
    const theirs = attacker.headers.getSetCookie()[0]?.split(";")[0] ?? "";
    expect((await post(notes, theirs, csrfOf(victim.text))).status).toBe(403);
    expect((await post(notes, "", csrfOf(victim.text))).status).toBe(403);
  });

  test("from another site it is refused, with the right token, too", async () => {
    const link = await ask(ann);
    const page = await visit(link);
    const cookie = page.headers.getSetCookie()[0]?.split(";")[0] ?? "";
    for (const origin of ["https://attacker.example", "null", world.url.replace("127.0.0.1", "localhost")])
      expect((await post(link, cookie, csrfOf(page.text), origin)).status).toBe(403);
    expect(authServer.tokenRequests).toEqual([]);
  });

  test("Decline of another browser ends nothing", async () => {
    const link = await ask(ann);
    const browser = person(authServer, "ann");
    await browser.open(link);
    const answer = await submit(link, {
      cookie: `consentry-browser=${"s".repeat(43)}`,
      form: { action: "decline", csrf: "x" },
    });
    expect(answer.status).toBe(403);
    expect(headingOf(await allow(browser, link))).toContain("Connected");
  });
});
