// Every page that people can get, with the worst texts that others could give us, in a real browser.
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Connected, ConsentFacts, ConsentView } from "../../src/core/consent-views.ts";
import { consentPage } from "../../src/http/pages-consent.ts";
import { mePage, signInEndPage } from "../../src/http/pages-me.ts";
import { problemPage } from "../../src/http/pages-problems.ts";
import { strangeFormPage } from "../../src/http/pages-route.ts";
import { styleRoutes } from "../../src/http/pages-style.ts";
import { createPages, type Page } from "../../src/http/pages.ts";
import { httpProblems } from "../../src/http/problems.ts";
import { faultsOf, PHONE, shoot, startBrowser, type TestBrowser } from "../helpers/browser.ts";

const NOW = Date.UTC(2026, 10, 21, 12, 0);
const MINUTES = 60_000;

const facts: ConsentFacts = {
  project: "default",
  connection: "github",
  serverHost: "api.githubcopilot.com",
  authorizationHost: "github.com",
  tokenHost: "github.com",
  issuerHost: "github.com",
  scopes: ["repo", "read:user"],
  newScopes: ["repo", "read:user"],
  why: "none",
  agent: "support-agent",
  callerName: "web-app",
  user: "app:ann@example.com",
  proof: "possession",
  expiresAt: NOW + 9.5 * MINUTES,
};
const asking = (more: Partial<ConsentFacts> = {}): ConsentView => ({
  kind: "ask",
  facts: { ...facts, ...more },
  csrf: "c",
});
const over = (more: Partial<ConsentView & { kind: "over" }>): ConsentView => ({
  kind: "over",
  status: "connected",
  connection: "github",
  serverHost: "api.githubcopilot.com",
  outcome: null,
  doneUrl: null,
  ...more,
});
const connected: Connected = {
  grant: "grant_1",
  connection: "github",
  serverHost: "api.githubcopilot.com",
  status: "active",
  scopes: ["repo", "read:user"],
  connectedAt: NOW - 3 * 24 * 60 * MINUTES,
  lastUsedAt: NOW - 5 * MINUTES,
  lastUsedBy: "support-agent",
  renewsItself: true,
};
const ofMe = (more: object) =>
  mePage(
    { kind: "me", user: "app:ann@example.com", connected: [connected], csrf: "c", done: null, ...more },
    "default",
  );

const evil = `<script>document.title="gone"</script>\u202Egnp.exe\u200B & "quotes" 'and' \u0430bc`;
const long = (letters: string) => `${letters.repeat(200)}`;

const consentViews: Record<string, ConsentView> = {
  "consent-ask": asking(),
  "consent-ask-signed-in": asking({
    proof: "sign-in",
    user: "corp:ann",
    agent: null,
    scopes: null,
    newScopes: [],
  }),
  "consent-ask-runtime": asking({ proof: "runtime" }),
  "consent-ask-step-up": asking({
    why: "insufficient_scope",
    scopes: ["repo", "read:user", "delete_repo"],
    newScopes: ["delete_repo"],
  }),
  "consent-ask-offline": asking({
    agent: null,
    scopes: ["openid", "offline_access"],
    newScopes: ["openid", "offline_access"],
  }),
  "consent-ask-again": asking({ why: "invalid_grant", newScopes: [] }),
  "consent-ask-evil": asking({
    connection: evil,
    agent: evil,
    callerName: evil,
    project: evil,
    user: `app:${evil}`,
    scopes: [evil, "ok"],
    serverHost: "xn--pple-43d.com",
  }),
  "consent-ask-long": asking({
    connection: long("c"),
    agent: long("Agent"),
    serverHost: `${long("host.")}example`,
    authorizationHost: `${long("host.")}example`,
    scopes: [long("scope"), ...Array.from({ length: 30 }, (_, at) => `scope:${at}`)],
    user: `app:${long("u")}`,
  }),
  "consent-sign-in": { kind: "sign_in", host: "login.example.com", csrf: "c" },
  "consent-connected": over({}),
  "consent-declined": over({ status: "declined", outcome: "declined" }),
  "consent-declined-there": over({ status: "declined", outcome: "access_denied" }),
  "consent-expired": over({ status: "expired" }),
  "consent-finished-stranger": over({ connection: null, serverHost: null }),
  "consent-failed": over({ status: "failed", outcome: "iss_mismatch" }),
  "consent-failed-iss-missing": over({ status: "failed", outcome: "iss_missing" }),
  "consent-failed-transient": over({ status: "failed", outcome: "transient" }),
  "consent-failed-odd": over({ status: "failed", outcome: evil }),
  "consent-refused": { kind: "refused" },
  "consent-unknown": { kind: "unknown" },
  "consent-unusable": { kind: "unusable", message: "the authorization server cannot be used" },
};

const views: Record<string, Page> = {
  ...Object.fromEntries(
    Object.entries(consentViews).flatMap(([name, view]) =>
      view.kind === "go" ? [] : [[name, consentPage(view, NOW)] as const],
    ),
  ),
  "me-accounts": ofMe({
    connected: [
      connected,
      {
        ...connected,
        grant: "grant_2",
        connection: "notes",
        lastUsedAt: null,
        renewsItself: false,
        scopes: [],
      },
      { ...connected, grant: "grant_3", connection: "calendar", status: "needs_consent", lastUsedBy: null },
    ],
  }),
  "me-empty": ofMe({ connected: [] }),
  "me-disconnected": ofMe({ done: { connection: "notes", upstream: "revoked" } }),
  "me-disconnected-failed": ofMe({ done: { connection: "notes", upstream: "failed" } }),
  "me-long": ofMe({
    user: `app:${long("u")}`,
    connected: [
      { ...connected, connection: long("n"), serverHost: long("h"), scopes: [long("s")], lastUsedBy: evil },
    ],
  }),
  "me-sign-in": mePage({ kind: "sign_in", host: "login.example.com", csrf: "c" }, "default"),
  "me-link": mePage({ kind: "link", token: "t", csrf: "c" }, "default"),
  "me-no-link": mePage({ kind: "no_link" }, "default"),
  "me-left": mePage({ kind: "left" }, "default"),
  "me-closed": mePage({ kind: "closed" }, "default"),
  "sign-in-failed": signInEndPage({
    kind: "failed",
    code: "access_denied",
    message: "You cancelled the sign-in, or it was not allowed.",
    back: "/consent/x",
  }),
  "strange-form": strangeFormPage,
  nowhere: problemPage(httpProblems.noRoute),
  "too-many": problemPage(httpProblems.tooMany(12)),
  "our-fault": problemPage(httpProblems.ourFault("req_1")),
};

let browser: TestBrowser;
let server: ReturnType<typeof createAdaptorServer>;
let origin: string;

beforeAll(async () => {
  const pages = createPages({ publicUrl: "http://127.0.0.1", local: true });
  const styles = new Map(styleRoutes().map((route) => [route.path, route]));
  server = createAdaptorServer({
    fetch: async (request: Request) => {
      const { pathname } = new URL(request.url);
      const style = styles.get(pathname);
      if (style?.access === "public")
        return style.handle({ request, params: {}, query: {}, requestId: "req_1", json: async () => null });
      const page = views[pathname.slice(1)];
      return page ? pages.show(page) : new Response(null, { status: 404 });
    },
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // Seam: it listens on a port.
  origin = `http://127.0.0.1:${port}`;
  browser = await startBrowser();
});
afterAll(async () => {
  await browser.stop();
  server.close();
});

describe.each(Object.keys(views))("the page %s", (name) => {
  test("is whole and can be used on a phone, by keyboard and by ear, without a script", async () => {
    const person = await browser.person({ dark: name.startsWith("me") });
    const response = await person.page.goto(`${origin}/${name}`);
    expect(response?.status()).toBe(views[name]?.status);
    await shoot(person.page, name);
    expect(await faultsOf(person.page)).toEqual([]);
    expect(person.complaints).toEqual([]);
    expect(await person.page.title()).toMatch(/^.+ · Consentry$/s);
    await person.close();
  });
});

test("what others wrote stands there whole: as text, with everything that does not show made to show", async () => {
  const { page, close } = await browser.person();
  await page.goto(`${origin}/consent-ask-evil`);
  const text = await page.locator("main").innerText();
  expect(text).toContain(
    String.raw`<script>document.title="gone"</script>\u{202e}gnp.exe\u{200b} & "quotes" 'and' \u{430}bc`,
  );
  expect(text).toContain("xn--pple-43d.com");
  expect(await page.title()).not.toBe("gone");
  expect(await page.content()).not.toMatch(/[\u202E\u200B\u0430]/);
  await close();
});

test.each(["consent-ask", "consent-ask-signed-in", "consent-ask-runtime"])(
  "on a phone both answers to %s are in sight at once",
  async (name) => {
    const { page, close } = await browser.person();
    await page.setViewportSize(PHONE);
    await page.goto(`${origin}/${name}`);
    for (const answer of ["Allow", "Decline"]) {
      const box = await page.getByRole("button", { name: answer }).boundingBox();
      expect((box?.y ?? Infinity) + (box?.height ?? 0)).toBeLessThanOrEqual(PHONE.height);
    }
    await close();
  },
);

test("what is asked for and who asks are said so that it helps, and once", async () => {
  const { page, close } = await browser.person();
  await page.goto(`${origin}/consent-ask-offline`);
  const text = await page.locator("main").innerText();
  expect(text).toContain("offline_access (stay connected when you are away)");
  expect(text).not.toContain("openid (");
  expect(text.match(/web-app/g)).toHaveLength(1);
  expect(text).not.toContain("Who asks");
  await page.goto(`${origin}/consent-ask`);
  expect(await page.locator("main").innerText()).toMatch(/support-agent, through the key web-app/);
  await close();
});

test("long texts are not cut, and the buttons come after all of them", async () => {
  const { page, close } = await browser.person();
  await page.goto(`${origin}/consent-ask-long`);
  const text = await page.locator("main").innerText();
  for (const whole of [long("c"), long("Agent"), long("host."), long("scope"), "scope:29"])
    expect(text).toContain(whole);
  const last = await page.getByText("scope:29", { exact: true }).boundingBox();
  const allow = await page.getByRole("button", { name: "Allow" }).boundingBox();
  expect(allow?.y).toBeGreaterThan(last?.y ?? Infinity);
  await close();
});
