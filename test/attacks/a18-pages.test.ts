// A18 for people's pages, on a real socket: foreign origins and hosts, framing, other sites' scripts, and what HEAD does.
import { once } from "node:events";
import { type IncomingMessage, type OutgoingHttpHeaders, request } from "node:http";
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
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

const ask = async () =>
  linkOf(
    await ann.responses.create({
      tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }],
    }),
  );
const meLink = async () =>
  String((await world.rest("POST", "/api/projects/default/me-links", { user: "ann" })).body["url"]);

type Sent = { status: number; headers: IncomingMessage["headers"]; text: string };

/** One request with exactly these headers: `fetch` lets nobody write Host, Origin or Sec-Fetch-Site. */
async function send(method: string, url: string, headers: OutgoingHttpHeaders, body = ""): Promise<Sent> {
  const outgoing = request(url, { method, headers });
  outgoing.end(body);
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage]; // Seam: what the event carries.
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer); // Seam: no encoding is set.
  return {
    status: answer.statusCode ?? 0,
    headers: answer.headers,
    text: Buffer.concat(chunks).toString(),
  };
}
const form = { "content-type": "application/x-www-form-urlencoded" };
const csrfOf = (html: string) => /name="csrf" value="([^"]+)"/.exec(html)?.[1] ?? "";

/** A page as its person has it: its cookie and the token of its form. */
async function opened(url: string): Promise<{ cookie: string; csrf: string }> {
  const page = await visit(url);
  return { cookie: page.headers.getSetCookie()[0]?.split(";")[0] ?? "", csrf: csrfOf(page.text) };
}

describe("a form", () => {
  const foreign: [string, OutgoingHttpHeaders][] = [
    ["another site's", { origin: "https://attacker.example" }],
    ["another site's, that looks like ours", { origin: "http://127.0.0.1.attacker.example" }],
    ["another port's of this machine", { origin: "http://127.0.0.1:1" }],
    [
      "another site's, whatever it says of itself",
      { origin: "https://attacker.example", "sec-fetch-site": "same-origin" },
    ],
    ["a sandbox's: null, and nothing said", { origin: "null" }],
    ["a sandbox's: null, and cross-site", { origin: "null", "sec-fetch-site": "cross-site" }],
    ["a sandbox's: null, and of the same site", { origin: "null", "sec-fetch-site": "same-site" }],
    ["nobody's: neither is said", {}],
    ["nobody's: no origin, and cross-site", { "sec-fetch-site": "cross-site" }],
    ["typed: no origin, and none", { "sec-fetch-site": "none" }],
  ];
  test.each(foreign)("that is %s does nothing, with the right token and cookie", async (_, headers) => {
    for (const [url, action] of [
      [await ask(), "action=allow&"],
      [await meLink(), ""],
    ] as const) {
      const { cookie, csrf } = await opened(url);
      const body = `${action}csrf=${csrf}`;
      const refused = await send("POST", url, { cookie, ...form, ...headers }, body);
      expect(refused.status).toBe(403);
      expect([refused.headers.location, refused.headers["set-cookie"]]).toEqual([undefined, undefined]);
      const own = { cookie, ...form, origin: world.url };
      expect((await send("POST", url, own, body)).status).toBe(303);
    }
  });

  test("of our own page without a referrer is taken by the browser's word", async () => {
    const link = await ask();
    const { cookie, csrf } = await opened(link);
    const headers = { cookie, ...form, origin: "null", "sec-fetch-site": "same-origin" };
    expect((await send("POST", link, headers, `action=allow&csrf=${csrf}`)).status).toBe(303);
  });
});

test("a name that is not ours gets nothing, whatever the path", async () => {
  const link = await ask();
  const paths = [
    new URL(link).pathname,
    new URL(await meLink()).pathname,
    "/me/default",
    "/oauth/callback/x",
  ];
  for (const host of ["attacker.example", "127.0.0.1.attacker.example", "127.0.0.1", "localhost:1"]) {
    for (const path of paths) {
      const { status, text } = await send("GET", `${world.url}${path}`, { host });
      expect([path, status]).toEqual([path, 403]);
      expect(text).not.toMatch(/csrf|notes|ann/);
    }
  }
  // Nobody was bound by it.
  expect(headingOf(await allow(person(authServer, "ann"), link))).toContain("Connected");
});

describe("every page of every route", () => {
  /** What the broker itself says people may ask for. */
  const routes = async () => {
    const { paths } = (await (await fetch(`${world.url}/openapi.json`)).json()) as {
      paths: Record<string, Record<string, { tags?: string[] }>>;
    };
    return Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods)
        .filter(([, { tags = [] }]) => tags.includes("person"))
        .map(([method]) => ({
          method: method.toUpperCase(),
          url: `${world.url}${path.replaceAll(/\{\w+\}/g, "default")}`,
        })),
    );
  };
  const isLockedDown = ({ headers }: Sent) => {
    expect(headers["content-security-policy"]).toContain("default-src 'none'");
    expect(headers["content-security-policy"]).toContain("frame-ancestors 'none'");
    expect(headers["content-security-policy"]).not.toMatch(/unsafe|script-src|https?:|\*/);
    expect(headers).toMatchObject({
      "x-frame-options": "DENY",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
      "cross-origin-opener-policy": "same-origin",
    });
  };
  const FILES = ["/pages.css", "/pages.svg", "/oauth/client/"];
  const isPage = (url: string) => !FILES.some((file) => url.includes(file));

  test("says that it is not to be framed, kept or read by others; also when it refuses", async () => {
    const all = (await routes()).filter(({ url }) => isPage(url));
    expect(all.length).toBeGreaterThan(8);
    for (const { method, url } of all) {
      const body = method === "POST" ? "action=allow&csrf=x" : "";
      for (const headers of [{}, { origin: world.url }, { origin: "https://attacker.example" }]) {
        const answer = await send(method, url, { ...(method === "POST" ? form : {}), ...headers }, body);
        expect([url, answer.headers["content-type"]]).toEqual([url, "text/html; charset=utf-8"]);
        isLockedDown(answer);
      }
    }
  });

  test("also when it asks, sends on, or says how it ended", async () => {
    const link = await ask();
    const first = await send("GET", link, {});
    const cookie = first.headers["set-cookie"]?.[0]?.split(";")[0] ?? "";
    const body = `action=allow&csrf=${csrfOf(first.text)}`;
    const sent = await send("POST", link, { cookie, ...form, origin: world.url }, body);
    const callback = await authServer.authorize(sent.headers.location ?? "", "ann");
    const ended = await send("GET", callback.href, { cookie });
    expect([first.status, sent.status, ended.status]).toEqual([200, 303, 303]);
    const end = await send("GET", ended.headers.location ?? "", { cookie });
    expect(end.text).toContain("Connected");
    for (const answer of [first, sent, ended, end]) isLockedDown(answer);
    // Browsers apply it to the whole way that a form leads, which goes on to the authorization server.
    expect(first.headers["content-security-policy"]).not.toContain("form-action");
    expect(end.headers["content-security-policy"]).toContain("form-action 'self'");
    expect(first.headers["set-cookie"]?.[0]).toMatch(/; HttpOnly; SameSite=Lax/);
  });

  test("answers no other site's script: there is no CORS, and a preflight gets nothing", async () => {
    const link = await ask();
    const urls = [...(await routes()).map(({ url }) => url), link, `${world.url}/api/projects`];
    for (const url of new Set(urls)) {
      for (const [method, headers] of [
        ["GET", { origin: "https://attacker.example" }],
        ["OPTIONS", { origin: "https://attacker.example", "access-control-request-method": "POST" }],
        ["OPTIONS", { origin: world.url, "access-control-request-method": "POST" }],
      ] as const) {
        const answer = await send(method, url, headers);
        const allowed = Object.keys(answer.headers).filter((name) => name.startsWith("access-control-"));
        expect([method, url, allowed]).toEqual([method, url, []]);
        expect([method, url, answer.status]).toEqual([
          method,
          url,
          expect.toSatisfy((one: number) => one >= 400),
        ]);
      }
    }
  });
});

describe("HEAD and other looks", () => {
  test("bind nothing, use up nothing and set no cookie", async () => {
    const [link, me] = [await ask(), await meLink()];
    for (const url of [link, me, `${world.url}/me/default`]) {
      const { headers, text } = await send("HEAD", url, {});
      expect([headers["set-cookie"], text]).toEqual([undefined, ""]);
    }
    expect(headingOf(await allow(person(authServer, "ann"), link))).toContain("Connected");
    const { cookie, csrf } = await opened(me);
    expect((await send("POST", me, { cookie, ...form, origin: world.url }, `csrf=${csrf}`)).status).toBe(303);
  });

  test("of a callback take nothing: the person still finishes", async () => {
    const { cookie, authorizationUrl } = await beginAuthorization(await ask());
    const callback = await authServer.authorize(authorizationUrl.href, "ann");
    await send("HEAD", callback.href, { cookie });
    expect(authServer.tokenRequests).toEqual([]);
    expect((await visit(callback, cookie)).text).toContain("Connected");
  });

  test("with a method that a page does not take, nothing happens", async () => {
    const link = await ask();
    for (const method of ["PUT", "DELETE", "PATCH"])
      expect((await send(method, link, { origin: world.url })).status).toBe(405);
    expect(headingOf(await allow(person(authServer, "ann"), link))).toContain("Connected");
  });
});
