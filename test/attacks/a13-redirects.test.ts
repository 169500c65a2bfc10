// A13: a callback, or a browser at the end, that is sent somewhere else than was registered: by a prefix, another spelling,
// a parameter.
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { beginAuthorization, linkOf, submit, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { clientOf, createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld();
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

/** A key, and the link of a consent that it has opened for ann. */
async function opened(urls: { confirmUrl?: string; doneUrl?: string } = {}) {
  const made = await world.rest("POST", "/api/projects/default/keys", {
    name: "app",
    roles: ["runtime"],
    rights: ["act_for_users"],
    ...urls,
  });
  const key = String(made.body["key"]);
  const client = clientOf(world.url, key, { project: "default", user: "ann" });
  const asked = await client.responses.create({
    tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }],
  });
  return { key, link: linkOf(asked) };
}

/** A GET of exactly this path, which `fetch` would tidy up. */
async function get(path: string, headers: Record<string, string> = {}) {
  const { hostname: host, port } = new URL(world.url);
  const outgoing = request({ host, port, path, headers });
  outgoing.end();
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage]; // Seam: what the event carries.
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer); // Seam: no encoding is set.
  return { status: answer.statusCode, headers: answer.headers, text: Buffer.concat(chunks).toString() };
}

describe("a callback", () => {
  test("comes in at exactly the connection's own redirect URL", async () => {
    const other = await world.connect("other", { authType: "OAuth2", target: server.url, credentials: {} });
    const { cookie, authorizationUrl } = await beginAuthorization((await opened()).link);
    const { pathname, search } = await authServer.authorize(authorizationUrl.href, "ann");
    const id = pathname.split("/").at(-1) ?? "";
    const elsewhere = new URL(String(other.body["redirectUrl"])).pathname;
    const strange = [
      pathname.slice(0, -1),
      `${pathname}0`,
      `/oauth/callback/${id.toUpperCase()}`,
      `${pathname}/`,
      `${pathname}/..`,
      `${pathname}/../${id}x`,
      `${pathname}%00`,
      `${pathname}%20`,
      `${pathname};x=y`,
      `${pathname}%2f..%2f${id}`,
      `/oauth/callback/%2e%2e/callback/${id}x`,
      `/OAUTH/callback/${id}`,
      `/oauth/callback/x${pathname}`,
      `/oauth/callback/`,
      elsewhere,
    ];
    for (const path of strange) {
      const { status, text } = await get(`${path}${search}`, { cookie });
      expect([path, status]).toEqual([path, expect.toSatisfy((one: number) => one === 403 || one === 404)]);
      expect([path, text]).toEqual([path, expect.not.stringContaining("Connected")]);
    }
    expect(authServer.tokenRequests).toEqual([]);
    const back = await get(`${pathname}${search}`, { cookie });
    const page = new URL(back.headers.location ?? "", world.url);
    expect((await get(page.pathname, { cookie })).text).toContain("Connected");
    const [exchange] = authServer.tokenRequests;
    expect(exchange?.params.get("redirect_uri")).toBe(authorizationUrl.searchParams.get("redirect_uri"));
  });

  test("never says where to: parameters that ask for it are nothing", async () => {
    const { cookie, authorizationUrl } = await beginAuthorization((await opened()).link);
    const callback = await authServer.authorize(authorizationUrl.href, "ann");
    for (const name of ["redirect_uri", "return_to", "doneUrl", "next", "url"])
      callback.searchParams.set(name, "https://attacker.example/");
    const page = await visit(callback, cookie);
    expect([page.status, page.headers.get("location")]).toEqual([200, null]);
    expect(page.text).not.toContain("attacker.example");
  });

  test("and neither Host nor forwarding headers say what our URLs are", async () => {
    const forged = {
      "x-forwarded-host": "attacker.example",
      "x-forwarded-proto": "https",
      forwarded: "host=attacker.example",
      "x-original-url": "/evil",
    };
    const { body } = await world.rest("GET", "/api/projects/default/connections/notes", undefined, forged);
    expect(String(body["redirectUrl"])).toMatch(new RegExp(`^${world.url}/`));
    const made = await world.rest("POST", "/api/projects/default/me-links", { user: "ann" }, forged);
    expect(String(made.body["url"])).toMatch(new RegExp(`^${world.url}/`));
    expect((await get("/healthz", { host: "attacker.example" })).status).toBe(200);
    expect((await get("/consent/x", { host: "attacker.example" })).status).toBe(403);
  });
});

// Spelled as nobody would: what is registered is used as it is, and our parameters come after it.
const SPELLINGS = [
  "http://127.0.0.1:9/confirm",
  "http://127.0.0.1:9",
  "http://127.0.0.1:9/a/../b//c/",
  "http://127.0.0.1:9/confirm?",
  "http://127.0.0.1:9/confirm?q=a%20b&flag&x=%7e",
  "http://127.0.0.1:9/c?next=https://attacker.example/&next=2",
  "http://LocalHost:9/Confirm",
];

describe("a runtime's own URLs", () => {
  beforeEach(async () => {
    await world.rest("PATCH", "/api/projects/default/settings", { consentProof: "runtime" });
  });

  const sentTo = async (url: string, cookie = "") => {
    const sent = await visit(url, cookie);
    const set = sent.headers.getSetCookie()[0]?.split(";")[0];
    return { status: sent.status, location: sent.headers.get("location") ?? "", cookie: set ?? cookie };
  };
  /** What stands behind a registered URL in a Location. */
  const addedTo = (registered: string, location: string) => {
    expect(location.startsWith(registered)).toBe(true);
    return location.slice(registered.length).replace(/^[?&]/, "");
  };

  test.each(SPELLINGS)("%s is the one that browsers are sent to, as registered", async (registered) => {
    const { key, link } = await opened({ confirmUrl: registered, doneUrl: registered });
    const first = await sentTo(link);
    expect(first.status).toBe(303);
    const code = /^consent_code=([\w-]{43})$/.exec(addedTo(registered, first.location))?.[1] ?? "";
    expect(new URL(first.location).searchParams.get("consent_code")).toBe(code);
    const confirmed = await world.rest(
      "POST",
      "/api/projects/default/consents:confirm",
      { code, user: "ann" },
      { authorization: `Bearer ${key}` },
    );
    const next = String(confirmed.body["continue_url"]);
    expect(next).toMatch(new RegExp(`^${world.url}/consent/continue/[\\w-]{43}$`));
    await visit(next, first.cookie);
    const page = await visit(link, first.cookie);
    const csrf = /name="csrf" value="([^"]+)"/.exec(page.text)?.[1] ?? "";
    const ended = await submit(link, { cookie: first.cookie, form: { action: "decline", csrf } });
    expect(ended.status).toBe(303);
    const added = addedTo(registered, ended.headers.get("location") ?? "");
    expect(added).toMatch(/^consent_id=oauthreq_[0-9a-f]{50}&status=declined$/);
    // Another browser with the same link is not sent there with an outcome.
    const stranger = await visit(link);
    expect([stranger.status, stranger.headers.get("location")]).toEqual([410, null]);
  });

  test("names of ours in them are refused, for nobody could tell which one is ours", async () => {
    const key = { name: "app", roles: ["runtime"], rights: ["act_for_users"] };
    for (const [field, url] of [
      ["confirmUrl", "https://app.example/confirm?consent_code=x"],
      ["doneUrl", "https://app.example/done?status=connected"],
      ["doneUrl", "https://app.example/done?a=b&consent_id=x"],
    ] as const) {
      const answer = await world.rest("POST", "/api/projects/default/keys", { ...key, [field]: url });
      expect([url, answer.status]).toEqual([url, 400]);
    }
  });

  test("a request cannot bring one of its own", async () => {
    const { link } = await opened({ confirmUrl: "http://127.0.0.1:9/confirm" });
    const target = encodeURIComponent("https://attacker.example/");
    for (const name of ["confirmUrl", "confirm_url", "doneUrl", "return_to"]) {
      const { location } = await sentTo(`${link}?${name}=${target}`);
      expect(location).toMatch(/^http:\/\/127\.0\.0\.1:9\/confirm\?consent_code=[\w-]{43}$/);
    }
  });
});
