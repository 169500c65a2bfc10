// A20 from outside: a refresh whose answer is none, or is not what it should be.
import type OpenAI from "openai";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer, type TokenMishap } from "../helpers/auth-server.ts";
import { allow, consentsOf, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const HOUR = 61 * 60_000;
let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let ann: OpenAI;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld();
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  await allow(person(authServer, "ann"), linkOf(await ann.responses.create({ tools })));
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const whoami = () => ann.responses.create({ tools, input: [call("notes", "whoami", {})] });
const refreshes = () => authServer.countTokenRequests("refresh_token");

test.each<[TokenMishap, number]>([
  ["error", 503],
  ["malformed_json", 503],
])(
  "the token endpoint answers with %s: a failed call, not a question to the person",
  async (mishap, code) => {
    world.advance(HOUR);
    authServer.mishaps.push(mishap, mishap);
    const answer = await whoami();
    expect(consentsOf(answer)).toEqual([]);
    expect(itemsOf(answer, "mcp_call")).toMatchObject([
      { status: "failed", error: { type: "http_error", code } },
    ]);
  },
);

test("a malformed id_token and a missing token_type on refresh lose nothing", async () => {
  for (const mishap of ["malformed_id_token", "no_token_type"] as const) {
    world.advance(HOUR);
    authServer.mishaps.push(mishap);
    expect(itemsOf(await whoami(), "mcp_call")).toMatchObject([{ output: "ann" }]);
  }
  world.advance(HOUR);
  expect(itemsOf(await whoami(), "mcp_call")).toMatchObject([{ output: "ann" }]);
  expect(refreshes()).toBe(3);
});
