// Two runtimes ask the same person: each gets its person back, the one that asked last first.
import { afterEach, beforeEach, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { beginAuthorization, linkOf, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, clientOf, createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld({ env: { CONSENTRY_AUDIT: "sync" } });
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

/** A runtime with URLs of its own; asking gives ann's link. */
async function runtime(name: string, urls: { confirmUrl?: string; doneUrl?: string }) {
  const { body } = await world.rest("POST", "/api/projects/default/keys", {
    name,
    roles: ["runtime"],
    rights: ["act_for_users"],
    ...urls,
  });
  const client = clientOf(world.url, String(body["key"]), { project: "default", user: "ann" });
  const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
  return async () => linkOf(await client.responses.create({ tools, input: [call("notes", "whoami", {})] }));
}
const urlsOf = (name: string) => ({
  confirmUrl: `https://${name}.example/confirm`,
  doneUrl: `https://${name}.example/done`,
});
const leadsTo = async (link: string) => new URL((await visit(link)).headers.get("location") ?? "").host;
const confirming = () => world.rest("PATCH", "/api/projects/default/settings", { consentProof: "runtime" });

test("the link leads to the runtime that asked last", async () => {
  await confirming();
  const [a, b] = [await runtime("a", urlsOf("a")), await runtime("b", urlsOf("b"))];
  expect(await leadsTo(await a())).toBe("a.example");
  expect(await leadsTo(await b())).toBe("b.example");
  expect(await leadsTo(await a())).toBe("a.example");
});

test("a link that was made before its runtime had to confirm is mended by asking again", async () => {
  const plain = await runtime("plain", {});
  const link = await plain();
  await confirming();
  const b = await runtime("b", urlsOf("b"));
  expect(await b()).toBe(link);
  expect(await leadsTo(link)).toBe("b.example");
});

test("whoever is on the way already ends up where it began", async () => {
  const [a, b] = [await runtime("a", urlsOf("a")), await runtime("b", urlsOf("b"))];
  const { cookie, authorizationUrl } = await beginAuthorization(await a());
  await b();
  const done = await visit(await authServer.authorize(authorizationUrl.href, "ann"), cookie);
  const page = done.text + (done.headers.get("location") ?? "");
  expect([page.includes("a.example"), page.includes("b.example")]).toEqual([true, false]);
});

test("an end of another runtime's is not its", async () => {
  const [a, plain] = [await runtime("a", urlsOf("a")), await runtime("plain", {})];
  await a();
  const { cookie, authorizationUrl } = await beginAuthorization(await plain());
  const done = await visit(await authServer.authorize(authorizationUrl.href, "ann"), cookie);
  expect([done.text.includes("Connected"), done.text.includes("a.example")]).toEqual([true, false]);
});
