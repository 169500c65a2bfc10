// A2: what a person allows is what they have read. What changed since is shown before anything happens.
import type OpenAI from "openai";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { connectOdd, finishOdd, type OddServer, startOddServer } from "../helpers/odd-server.ts";
import { linkOf, submit, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let other: TestAuthServer;
let server: ProtectedServer;
let odd: OddServer;
let ann: OpenAI;

beforeEach(async () => {
  [authServer, other, odd] = await Promise.all([startAuthServer(), startAuthServer(), startOddServer()]);
  server = await startProtectedServer({ authServer });
  world = await createWorld();
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
  await connectOdd(world, odd);
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  for (const one of [server, odd, authServer, other]) await one.stop();
});

const ask = (label: string) =>
  ann.responses.create({
    tools: [{ type: "mcp", server_label: label, require_approval: "never" }],
    input: [call(label, "whoami", {})],
  });
const open = async (link: string) => {
  const { text, headers } = await visit(link);
  return { text, cookie: headers.getSetCookie()[0]?.split(";")[0] ?? "" };
};
const press = (link: string, { text, cookie }: { text: string; cookie: string }) => {
  const csrf = /name="csrf" value="([^"]+)"/.exec(text)?.[1] ?? "";
  return submit(link, { cookie, form: { action: "allow", csrf } });
};

test("another authorization server by now: the page is shown anew, with its host, and only then does Allow lead there", async () => {
  const link = linkOf(await ask("notes"));
  const page = await open(link);
  world.advance(6 * 60_000);
  server.knobs.prm = (document) => ({ ...document, authorization_servers: [other.issuer] });
  const answer = await press(link, page);
  expect(answer.status).toBe(200);
  const anew = { text: await answer.text(), cookie: page.cookie };
  expect(anew.text).toContain(new URL(other.issuer).host);
  const gone = await press(link, anew);
  expect(new URL(gone.headers.get("location") ?? "").origin).toBe(other.issuer);
});

test("more scopes by now: the page is shown anew, with them", async () => {
  await finishOdd(linkOf(await ask("odd")));
  odd.ways.insufficient = "one";
  const link = linkOf(await ask("odd"));
  const page = await open(link);
  odd.ways.insufficient = "delete.everything";
  await ask("odd");
  const answer = await press(link, page);
  expect(answer.status).toBe(200);
  const text = await answer.text();
  expect(text).toContain("delete.everything");
  const gone = await press(link, { text, cookie: page.cookie });
  expect(new URL(gone.headers.get("location") ?? "").searchParams.get("scope")).toBe("one delete.everything");
});

test("the page names every host that the permission passes, not only the one that is seen", async () => {
  authServer.knobs.metadata = (document) => ({
    ...document,
    authorization_endpoint: "http://localhost:9/authorize",
    token_endpoint: `${odd.url}/token`,
  });
  const { text } = await open(linkOf(await ask("notes")));
  for (const host of ["localhost:9", new URL(odd.url).host, new URL(authServer.issuer).host]) {
    expect(text).toContain(host);
  }
});
