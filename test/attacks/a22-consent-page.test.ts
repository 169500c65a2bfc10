// A22 on the consent page: words of servers, callers and people that would like to be more than words.
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createBrowser, headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { allow, beginAuthorization, linkOf, person, visit } from "../helpers/people.ts";
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
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const mcp = { type: "mcp" as const, server_label: "notes", require_approval: "never" as const };
const textOf = (html: string) =>
  html
    .replaceAll(/<[^>]*>/g, "")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'")
    .replaceAll("&amp;", "&");
/** The elements of a page, in order: words must not add any. */
const elementsOf = (html: string) => [...html.matchAll(/<([a-z!][\w!]*)/gi)].map(([, name]) => name);
const UNSEEN = /[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad\u3164]/u;

const HTML = "\"><script>alert(1)</script><img src=x onerror=alert(1)>&lt;b&gt;'";
const BIDI = "read\u202etxt.exe\u2066x\u2069";
const HIDDEN = "re\u200bad\u2060\ufeff\u00ad\u3164";
const LONG = `begin-${"x".repeat(10_000)}-end`;
const escaped = (text: string) =>
  text.replaceAll(
    /[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad\u3164]/gu,
    (one) => `\\u{${one.codePointAt(0)?.toString(16)}}`,
  );

describe("names that are saved", () => {
  const names = ["<b>x</b>", "a\u202eb", "a\u200bb", "\u0430dmin", "x".repeat(10_000), "a b", "a\nb"];
  test.each(names)(
    "%j is no name of a connection, a key, an agent, a project or a connector",
    async (name) => {
      const path = encodeURIComponent(name);
      const none = { properties: { authType: "None", category: "RemoteTool", target: server.url } };
      const app = {
        clientId: "c",
        authorizationUrl: `${authServer.issuer}/auth`,
        tokenUrl: `${authServer.issuer}/token`,
        targets: ["127.0.0.1"],
      };
      expect((await world.rest("PUT", "/api/connectors/fine", app)).status).toBe(200);
      const answers = await Promise.all([
        world.rest("PUT", `/api/projects/default/connections/${path}`, none),
        world.rest("POST", "/api/projects/default/keys", { name, roles: ["runtime"] }),
        world.rest("POST", "/api/projects/default/agents", {
          name,
          definition: { kind: "prompt", model: "m" },
        }),
        world.rest("POST", "/api/projects", { name }),
        world.rest("PUT", `/api/connectors/${path}`, app),
      ]);
      expect(answers.map(({ status }) => status)).toEqual([400, 400, 400, 400, 400]);
    },
  );

  test.each(["a\u202eb", "a\u200bb", "a\nb", "x".repeat(10_000), ""])(
    "%j is no name of a user, in a body",
    async (user) => {
      const app = await world.runtime({ rights: ["act_for_users"] });
      const refused = await app.responses.create({ tools: [mcp], user }).catch((error: unknown) => error);
      expect(refused).toMatchObject({ status: 400 });
    },
  );
});

describe("on the page", () => {
  const plain = async () => {
    const page = await person(authServer, "ann").open(linkOf(await ann.responses.create({ tools: [mcp] })));
    return elementsOf(page.html).toSorted((one = "", other = "") => one.localeCompare(other, "en"));
  };

  test.each([
    ["HTML", HTML],
    ["an Arabic name", "\u0645\u062d\u0645\u062f"],
    ["a look-alike", "\u0430nn"],
    ["quotes and ampersands", `a"b'c&amp;d`],
  ])("a user whose name is %s is shown, and is not more than a name", async (_, user) => {
    const app = await world.runtime({ rights: ["act_for_users"] });
    const asked = await app.responses.create({ tools: [mcp], user });
    const page = await createBrowser().open(linkOf(asked));
    expect(page.status).toBe(200);
    expect(page.html).not.toMatch(/<script|<img src=x|<b>/);
    expect(textOf(page.html)).toContain(`app:${user.replace("\u0430", "\\u{430}")}`);
    const elements = elementsOf(page.html).filter((name) => name !== "span");
    const usual = (await plain()).filter((name) => name !== "span");
    expect(elements.toSorted((one = "", other = "") => one.localeCompare(other, "en"))).toEqual(usual);
  });

  test.each([
    ["HTML", HTML],
    ["turned around", BIDI],
    ["hidden in part", HIDDEN],
    ["ten thousand letters long", LONG],
    ["two words in one", "read admin"],
  ])("a scope in metadata that is %s is none, so it is neither shown nor asked for", async (_, scope) => {
    server.knobs.challengeScope = null;
    server.knobs.prm = (document) => ({ ...document, scopes_supported: [scope, "read"] });
    const credentials = { clientId: authServer.clients.public.clientId };
    await world.connect("hostile", { authType: "OAuth2", target: server.url, credentials });
    const ask = () => ann.responses.create({ tools: [{ ...mcp, server_label: "hostile" }] });
    const page = await person(authServer, "ann").open(linkOf(await ask()));
    expect(page.status).toBe(200);
    expect(page.html).not.toMatch(/<script|<img src=x|<b>/);
    expect(page.html).not.toMatch(UNSEEN);
    expect(textOf(page.html)).toContain("read");
    expect(textOf(page.html)).not.toContain(escaped(scope));
    // The page of before belongs to its browser: another is asked for.
    world.advance(11 * 60_000);
    const { authorizationUrl } = await beginAuthorization(linkOf(await ask()));
    expect(authorizationUrl.searchParams.get("scope")).toBe("read offline_access");
  });

  test("words that an authorization server sends back with an error are not shown at all", async () => {
    const { cookie, authorizationUrl } = await beginAuthorization(
      linkOf(await ann.responses.create({ tools: [mcp] })),
    );
    const callback = new URL(authorizationUrl.searchParams.get("redirect_uri") ?? "");
    for (const [name, value] of Object.entries({
      state: authorizationUrl.searchParams.get("state") ?? "",
      iss: authServer.issuer,
      error: "server_error",
      error_description: `${HTML} call 555-1234`,
      error_uri: "https://attacker.example/help",
    }))
      callback.searchParams.set(name, value);
    const page = await visit(callback, cookie);
    expect(page.text).toContain("in trouble right now");
    expect(page.text).not.toMatch(/555|attacker|<script/);
  });

  test("an error code that is none of the known ones is not shown either", async () => {
    const { cookie, authorizationUrl } = await beginAuthorization(
      linkOf(await ann.responses.create({ tools: [mcp] })),
    );
    const callback = new URL(authorizationUrl.searchParams.get("redirect_uri") ?? "");
    callback.searchParams.set("state", authorizationUrl.searchParams.get("state") ?? "");
    callback.searchParams.set("iss", authServer.issuer);
    callback.searchParams.set("error", `${HTML}visit attacker.example`);
    const page = await visit(callback, cookie);
    expect(page.text).toContain("was not connected");
    expect(page.text).not.toMatch(/attacker|<script/);
  });

  test("the account's own name at the server is nowhere believed or shown", async () => {
    const link = linkOf(await ann.responses.create({ tools: [mcp] }));
    const page = await allow(person(authServer, "zoe@attacker.example"), link);
    expect(headingOf(page)).toBe("Connected to notes");
    expect(page.html).not.toContain("zoe");
  });
});
