// What people see of what they connected, and how they take it back.
import type OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { faultsOf, type Person, shoot, startBrowser, type TestBrowser } from "../helpers/browser.ts";
import { allow, consentsOf, linkOf, person as cookieJar } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let browser: TestBrowser;
let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let ann: OpenAI;
const people: Person[] = [];

beforeAll(async () => {
  browser = await startBrowser();
});
afterAll(() => browser.stop());
beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld({ env: { CONSENTRY_AUDIT: "sync" } });
  await world.connect("notes", {
    authType: "OAuth2",
    target: server.url,
    credentials: {},
    requireApproval: "never",
  });
  ann = await world.runtime({ name: "web-app", user: "ann", rights: ["act_for_users"] });
  await allow(cookieJar(authServer, "ann@provider"), linkOf(await whoami()));
  await whoami();
});
afterEach(async () => {
  const closed = await Promise.allSettled(people.splice(0).map(({ close }) => close()));
  await world.stop();
  await server.stop();
  await authServer.stop();
  // What a browser finds fault with is a fault of ours, in every test.
  for (const one of closed) if (one.status === "rejected") throw one.reason;
});

async function person(account?: string): Promise<Page> {
  const made = await browser.person(account === undefined ? {} : { account });
  people.push(made);
  return made.page;
}

const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const whoami = () => ann.responses.create({ tools, input: [call("notes", "whoami", {})] });
const heading = (page: Page) => page.locator("h1").innerText();
const press = (page: Page, name: string) => page.getByRole("button", { name }).click();
const linkFor = async (user: string) => {
  const made = await world.rest("POST", "/api/projects/default/me-links", { user });
  expect(made.status).toBe(200);
  return String(made.body["url"]);
};

describe("a link that the application made", () => {
  test("opens what the person connected, and disconnecting holds from the next call on", async () => {
    const page = await person();
    await page.goto(await linkFor("ann"));
    expect(await heading(page)).toBe("Your connected accounts");
    await shoot(page, "flow-me-link");
    await press(page, "Open");
    expect(new URL(page.url()).pathname).toBe("/me/default");
    const text = await page.locator("main").innerText();
    for (const fact of ["app:ann", "notes", new URL(server.url).host, "read", "web-app"])
      expect(text).toContain(fact);
    expect(await faultsOf(page)).toEqual([]);
    await shoot(page, "flow-me");
    expect(itemsOf(await whoami(), "mcp_call")[0]?.output).toBe("ann@provider");

    await press(page, "Disconnect");
    expect(await page.getByRole("status").innerText()).toContain("notes is disconnected");
    expect(await page.locator("main").innerText()).toContain("Nothing is connected.");
    await shoot(page, "flow-me-disconnected");
    expect(authServer.revocations).toHaveLength(1);
    expect(consentsOf(await whoami())).toHaveLength(1);
  });

  test("works once, and a scanner that looks at it does no harm", async () => {
    const link = await linkFor("ann");
    for (const method of ["GET", "HEAD"]) expect((await fetch(link, { method })).status).toBe(200);
    const first = await person();
    const second = await person();
    await first.goto(link);
    await second.goto(link);
    await press(first, "Open");
    expect(await heading(first)).toBe("Your connected accounts");
    await press(second, "Open");
    expect(await heading(second)).toBe("This link is finished");
    expect((await first.goto(link))?.status()).toBe(404);
  });

  test("is for ten minutes, and the visit for fifteen", async () => {
    const late = await linkFor("ann");
    const link = await linkFor("ann");
    const page = await person();
    await page.goto(link);
    await press(page, "Open");
    world.advance(10 * 60_000);
    expect((await page.goto(late))?.status()).toBe(404);
    await page.goto(`${world.url}/me/default`);
    expect(await page.locator("main").innerText()).toContain("app:ann");
    world.advance(5 * 60_000);
    expect((await page.goto(page.url()))?.status()).toBe(404);
    expect(await heading(page)).toBe("There is no way in here");
  });

  test("is of one project, and leaving ends the visit", async () => {
    await world.rest("POST", "/api/projects", { name: "other" });
    const link = await linkFor("ann");
    const page = await person();
    expect((await page.goto(link.replace("/me/default/", "/me/other/")))?.status()).toBe(404);
    await page.goto(link);
    await press(page, "Open");
    expect((await page.goto(`${world.url}/me/other`))?.status()).toBe(404);
    await page.goto(`${world.url}/me/default`);
    const cookies = await page.context().cookies();
    await press(page, "Leave this page");
    expect(await heading(page)).toBe("You have left");
    // Not only the cookie is gone: its value is worth nothing any more.
    await page.context().addCookies(cookies);
    expect((await page.goto(`${world.url}/me/default`))?.status()).toBe(404);
  });

  test("shows nothing of others", async () => {
    const page = await person();
    await page.goto(await linkFor("bob"));
    await press(page, "Open");
    const text = await page.locator("main").innerText();
    expect(text).toContain("Nothing is connected.");
    expect(text).not.toContain("notes");
  });
});

describe("a sign-in at the project's issuer", () => {
  beforeEach(async () => {
    authServer.addRedirectUris(`${world.url}/signin/callback`);
    const { clientId, clientSecret } = authServer.clients.post;
    const { status } = await world.rest("PATCH", "/api/projects/default/settings", {
      signIn: { name: "corp", issuer: authServer.issuer, clientId, clientSecret },
      users: { assertedAs: { issuer: authServer.issuer, claim: "sub" } },
    });
    if (status !== 200) throw new Error(`the settings: ${status}`);
  });

  test("opens what the person connected", async () => {
    const page = await person("ann");
    await page.goto(`${world.url}/me/default`);
    expect(await heading(page)).toBe("Your connected accounts");
    expect(await faultsOf(page)).toEqual([]);
    await shoot(page, "flow-me-sign-in");
    await press(page, "Sign in");
    expect(new URL(page.url()).pathname).toBe("/me/default");
    expect(await page.locator("main").innerText()).toContain("app:ann");
    await press(page, "Disconnect");
    expect(consentsOf(await whoami())).toHaveLength(1);
  });

  test("of somebody who was blocked leads nowhere, and open visits end", async () => {
    const page = await person("ann");
    await page.goto(`${world.url}/me/default`);
    await press(page, "Sign in");
    expect(await page.locator("main").innerText()).toContain("app:ann");
    await world.rest("DELETE", "/api/projects/default/users/ann");
    await page.goto(page.url());
    expect(await page.locator("main").innerText()).not.toContain("app:ann");
    await press(page, "Sign in");
    expect(await heading(page)).toBe("This does not go on here");
  });
});
