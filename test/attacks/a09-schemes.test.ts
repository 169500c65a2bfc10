// A9: URLs that a browser or we would do something else with than ask a web server. Refused when they are saved, and again
// when they are used.
import Database from "better-sqlite3";
import { join } from "node:path";
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { consentsOf, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let ann: OpenAI;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld();
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const BAD = [
  "javascript:alert(1)//https://127.0.0.1/",
  "JaVaScRiPt:alert(1)",
  "java\tscript:alert(1)",
  " javascript:alert(1)",
  "data:text/html,<script>alert(1)</script>",
  "file:///etc/passwd",
  "vbscript:x",
  "blob:https://127.0.0.1/x",
  "ftp://127.0.0.1/x",
  "//127.0.0.1/x",
  "http://mcp.example/x",
  "http://user@127.0.0.1/x",
  "https://user:pass@127.0.0.1/x",
  "https://127.0.0.1/x#y",
  "https://",
  "",
];
/** What a URL parser would mend: it names what it names for us, too, but nobody types it by accident. */
const SLOPPY = ["https://127.0.0.1\\@evil.example/", "https:127.0.0.1", "https://127.0.0.1/\r\nx: y"];
const own = () => ({
  authType: "OAuth2",
  target: server.url,
  credentials: { clientId: "c", clientSecret: "s" },
  authorizationUrl: `${authServer.issuer}/auth`,
  tokenUrl: `${authServer.issuer}/token`,
});

describe("when they are saved", () => {
  const FIELDS = ["target", "authorizationUrl", "tokenUrl", "refreshUrl", "revocationUrl", "issuer"];
  test.each(FIELDS)("as %s of a connection", async (field) => {
    for (const url of [...BAD, ...SLOPPY]) {
      const answer = await world.connect("bad", { ...own(), [field]: url });
      expect([url, answer.status]).toEqual([url, 400]);
      expect([url, JSON.stringify(answer.body)]).toEqual([
        url,
        expect.stringContaining(`properties.${field}`),
      ]);
    }
    expect((await world.rest("GET", "/api/projects/default/connections/bad")).status).toBe(404);
  });

  test.each(FIELDS.slice(1))("as %s of a connector", async (field) => {
    const { authorizationUrl, tokenUrl, credentials } = own();
    const app = { ...credentials, authorizationUrl, tokenUrl, targets: ["127.0.0.1"] };
    for (const url of [...BAD, ...SLOPPY]) {
      const answer = await world.rest("PUT", "/api/connectors/bad", { ...app, [field]: url });
      expect([url, answer.status]).toEqual([url, 400]);
    }
    expect((await world.rest("GET", "/api/connectors/bad")).status).toBe(404);
  });

  test.each(["confirmUrl", "doneUrl"])("as %s of a key", async (field) => {
    const key = { name: "app", roles: ["runtime"], rights: ["act_for_users"] };
    for (const url of [...BAD, ...SLOPPY]) {
      const answer = await world.rest("POST", "/api/projects/default/keys", { ...key, [field]: url });
      expect([url, answer.status]).toEqual([url, 400]);
    }
  });

  test("as the issuer of a project's sign-in", async () => {
    for (const issuer of [...BAD, ...SLOPPY]) {
      const signIn = { name: "idp", issuer, clientId: "c" };
      const answer = await world.rest("PATCH", "/api/projects/default/settings", { signIn });
      expect([issuer, answer.status]).toEqual([issuer, 400]);
    }
  });
});

describe("when they are found", () => {
  const ask = () =>
    ann.responses.create({ tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }] });
  const discovered = () =>
    world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });

  test.each(["authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"])(
    "as %s in metadata: nobody is asked, and nothing is done with it",
    async (name) => {
      await discovered();
      for (const url of BAD) {
        authServer.knobs.metadata = (document) => ({ ...document, [name]: url });
        const asked = await ask();
        expect([url, consentsOf(asked)]).toEqual([url, []]);
        expect(asked.output).toMatchObject([
          { type: "mcp_list_tools", error: expect.stringContaining(name) },
        ]);
      }
      expect(authServer.registrations).toEqual([]);
    },
  );

  test("as an issuer, or as the place of the server's metadata", async () => {
    await discovered();
    const { resourceMetadata } = server.knobs;
    for (const url of BAD.slice(0, 8)) {
      server.knobs.resourceMetadata = resourceMetadata;
      server.knobs.prm = (document) => ({ ...document, authorization_servers: [url] });
      expect([url, consentsOf(await ask())]).toEqual([url, []]);
      if (/[^\x20-\x7e]/.test(url)) continue;
      server.knobs.resourceMetadata = url;
      world.advance(6 * 60_000);
      expect([url, consentsOf(await ask())]).toEqual([url, []]);
    }
    expect(authServer.registrations).toEqual([]);
  });

  test("what was good when it was saved is judged again when a browser is sent there", async () => {
    await discovered();
    const link = linkOf(await ask());
    const browser = person(authServer, "ann");
    const page = await browser.open(link);
    const database = new Database(join(world.folder, "consentry.db"));
    const { changes } = database
      .prepare("UPDATE registrations SET server = replace(server, ?, ?)")
      .run(
        `"authorizationEndpoint":"${authServer.issuer}/auth"`,
        '"authorizationEndpoint":"javascript:alert(1)"',
      );
    database.close();
    expect(changes).toBe(1);
    const answer = await browser.press(page, "allow");
    expect(answer.status).toBe(503);
    expect(answer.html).not.toContain("alert(1)");
    expect((await browser.open(link)).html).not.toContain("javascript:");
  });
});
