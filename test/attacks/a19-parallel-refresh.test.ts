// A19 from outside: two replicas on one PostgreSQL, two hundred calls at the moment at which the token ends, and an
// authorization server that revokes the family when a refresh token comes twice.
import { afterAll, beforeAll, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { allow, consentsOf, linkOf, person } from "../helpers/people.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { ADMIN_KEY, call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const CALLS = 200;
let replicas: TestWorld[];
let authServer: TestAuthServer;
let server: ProtectedServer;

beforeAll(async () => {
  const env = {
    CONSENTRY_DATABASE_URL: await createDatabase(),
    CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
  };
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  replicas = await Promise.all([createWorld({ env }), createWorld({ env })]);
  await replicas[0]?.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
});
afterAll(async () => {
  await Promise.all(replicas.map((replica) => replica.stop()));
  await server.stop();
  await authServer.stop();
});

const client = (at: number) =>
  clientOf(replicas[at % replicas.length]?.url ?? "", ADMIN_KEY, { project: "default", user: "ann" });
const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const whoami = (at: number) =>
  client(at).responses.create({ tools, input: [call("notes", "whoami", {}, `c${at}`)], store: false });
const refreshes = () => authServer.countTokenRequests("refresh_token");

test("two hundred calls on two replicas at expiry: one refresh, two hundred successes, and the grant lives", async () => {
  await allow(person(authServer, "ann"), linkOf(await client(0).responses.create({ tools })));
  expect(itemsOf(await whoami(0), "mcp_call")).toMatchObject([{ output: "ann" }]);
  for (let round = 1; round <= 2; round++) {
    for (const replica of replicas) replica.advance(2 * 60 * 60_000);
    authServer.knobs.tokenLatencyMs = 300;
    const answers = await Promise.all(Array.from({ length: CALLS }, (_, at) => whoami(at)));
    const outputs = answers.flatMap((answer) => itemsOf(answer, "mcp_call").map(({ output }) => output));
    expect(outputs).toEqual(Array.from({ length: CALLS }, () => "ann"));
    expect(answers.flatMap(consentsOf)).toEqual([]);
    expect(refreshes()).toBe(round);
  }
});
