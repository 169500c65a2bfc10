// People with real browsers at our pages and at a real authorization server.
import type OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { faultsOf, type Person, shoot, startBrowser, type TestBrowser } from "../helpers/browser.ts";
import { linkOf } from "../helpers/people.ts";
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
});
afterEach(async () => {
  const closed = await Promise.allSettled(people.splice(0).map(({ close }) => close()));
  await world.stop();
  await server.stop();
  await authServer.stop();
  // What a browser finds fault with is a fault of ours, in every test.
  for (const one of closed) if (one.status === "rejected") throw one.reason;
});

async function person(options: Parameters<TestBrowser["person"]>[0] = {}): Promise<Person> {
  const made = await browser.person(options);
  people.push(made);
  return made;
}

const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const ask = async () => linkOf(await ann.responses.create({ tools, input: [call("notes", "whoami", {})] }));
const whoami = async () => {
  const response = await ann.responses.create({ tools, input: [call("notes", "whoami", {}, "call_again")] });
  return itemsOf(response, "mcp_call")[0]?.output;
};
const heading = (page: Page) => page.locator("h1").innerText();
// Not page.reload(): right after a page of another origin it may find the page gone.
const again = (page: Page) => page.goto(page.url());
const press = (page: Page, name: string) => page.getByRole("button", { name }).click();
const refusals = async () => {
  const { body } = await world.rest("GET", "/api/projects/default/audit?event=consent_refused");
  const { value } = body as unknown as { value: { detail: { why: string } }[] }; // Seam: an answer of ours.
  return value.map(({ detail }) => detail.why);
};
const settle = async (settings: object) => {
  const { status, body } = await world.rest("PATCH", "/api/projects/default/settings", settings);
  expect([status, body]).toEqual([200, expect.anything()]);
};

describe("a person who opened the link first", () => {
  test("allows, and calls run as them", async () => {
    const { page } = await person({ account: "ann@provider" });
    await page.goto(await ask());
    expect(await heading(page)).toBe("Connect notes");
    const text = await page.locator("main").innerText();
    for (const fact of ["web-app", new URL(server.url).host, new URL(authServer.issuer).host, "app:ann"])
      expect(text).toContain(fact);
    await shoot(page, "flow-1-ask");
    expect(await faultsOf(page)).toEqual([]);
    await press(page, "Allow");
    expect(await heading(page)).toBe("Connected to notes");
    await shoot(page, "flow-2-connected");
    expect(await whoami()).toBe("ann@provider");
  });

  test("declines, and nothing goes to the authorization server", async () => {
    const { page, visited } = await person({ account: "ann@provider" });
    await page.goto(await ask());
    await press(page, "Decline");
    expect(await heading(page)).toBe("You declined");
    await shoot(page, "flow-declined");
    expect(visited).not.toContain(new URL(authServer.issuer).host);
    await page.goBack();
    await again(page);
    expect(await heading(page)).toBe("You declined");
  });

  test("declines at the authorization server", async () => {
    const { page } = await person({ account: "ann@provider", answer: "decline" });
    await page.goto(await ask());
    await press(page, "Allow");
    expect(await heading(page)).toBe("Not connected");
    await shoot(page, "flow-declined-there");
  });

  test("comes back from a server that goes by a second origin", async () => {
    authServer.knobs.detour = "second origin";
    const { page, visited } = await person({ account: "ann@provider" });
    await page.goto(await ask());
    await press(page, "Allow");
    expect(await heading(page)).toBe("Connected to notes");
    expect(visited).toContain(new URL(authServer.secondOrigin).host);
    expect(await whoami()).toBe("ann@provider");
  });

  test("may reload, and go back, and allow in another tab: it is finished once", async () => {
    const { page } = await person({ account: "ann@provider" });
    const link = await ask();
    await page.goto(link);
    await again(page);
    const tab = await page.context().newPage();
    await tab.goto(link);
    await press(tab, "Allow");
    expect(await heading(tab)).toBe("Connected to notes");
    await press(page, "Allow");
    expect(await heading(page)).toBe("Connected to notes");
    expect(authServer.countTokenRequests("authorization_code")).toBe(1);
  });

  test("is too late", async () => {
    const { page } = await person({ account: "ann@provider" });
    const link = await ask();
    await page.goto(link);
    world.advance(11 * 60_000);
    await press(page, "Allow");
    expect(await heading(page)).toBe("This link has ended");
    expect((await page.goto(link))?.status()).toBe(410);
    await shoot(page, "flow-expired");
  });

  test("reloads what they see at the end, and replays the callback: nothing happens twice", async () => {
    const { page } = await person({ account: "ann@provider" });
    let callback = "";
    page.on("request", (request) => {
      if (request.url().includes("/oauth/callback/")) callback = request.url();
    });
    const link = await ask();
    await page.goto(link);
    await press(page, "Allow");
    expect(page.url()).toBe(link);
    expect((await again(page))?.status()).toBe(200);
    expect(await heading(page)).toBe("Connected to notes");
    expect((await page.goto(callback))?.status()).toBe(403);
    expect(authServer.countTokenRequests("authorization_code")).toBe(1);
    expect(await whoami()).toBe("ann@provider");
  });
});

describe("somebody else", () => {
  test("who opens the link second is refused dully, and the first one goes on", async () => {
    const link = await ask();
    const first = await person({ account: "ann@provider" });
    await first.page.goto(link);
    const second = await person({ account: "eve@provider" });
    expect((await second.page.goto(link))?.status()).toBe(403);
    expect(await second.page.content()).not.toMatch(/notes|ann/);
    const advice = await second.page.locator("main").innerText();
    for (const words of [
      "browser where you opened it first",
      "wait ten minutes",
      "private window",
      "cookies",
    ])
      expect(advice).toContain(words);
    await shoot(second.page, "flow-refused");
    expect(await refusals()).toEqual(["other_browser"]);
    await press(first.page, "Allow");
    expect(await heading(first.page)).toBe("Connected to notes");
  });

  test("who is the right one, in another browser, gets a new link after ten minutes", async () => {
    const link = await ask();
    const first = await person();
    await first.page.goto(link);
    const { page } = await person({ account: "ann@provider" });
    expect((await page.goto(link))?.status()).toBe(403);
    expect(await ask()).toBe(link);
    world.advance(10 * 60_000);
    const fresh = await ask();
    expect(fresh).not.toBe(link);
    await page.goto(fresh);
    await press(page, "Allow");
    expect(await heading(page)).toBe("Connected to notes");
  });

  test("who sends the form from another site is refused, whatever is in it", async () => {
    const link = await ask();
    const { page } = await person({ account: "ann@provider" });
    await page.goto(link);
    const csrf = await page.locator("input[name=csrf]").inputValue();
    const elsewhere = await page.context().newPage();
    // Another port is another origin of the same site: the cookie goes along, as with a forged page on a sister host.
    await elsewhere.route(`${authServer.secondOrigin}/**`, (route) =>
      route.fulfill({
        contentType: "text/html",
        body: `<form method="post" action="${link}"><input name="csrf" value="${csrf}"><button name="action" value="allow">Go</button></form>`,
      }),
    );
    await elsewhere.goto(`${authServer.secondOrigin}/forged`);
    const [answer] = await Promise.all([
      elsewhere.waitForResponse((response) => response.url() === link),
      press(elsewhere, "Go"),
    ]);
    expect(answer.status()).toBe(403);
    expect(authServer.countTokenRequests("authorization_code")).toBe(0);
  });

  test("cannot put our pages into a frame", async () => {
    const link = await ask();
    const made = await person();
    await made.page.route(`${authServer.secondOrigin}/**`, (route) =>
      route.fulfill({ contentType: "text/html", body: `<iframe src="${link}"></iframe>` }),
    );
    await made.page.goto(`${authServer.secondOrigin}/frame`);
    const [, frame] = made.page.frames();
    expect(frame?.url()).toMatch(/^chrome-error:/);
    expect(await frame?.content()).not.toContain("Connect notes");
    made.complaints.length = 0;
  });
});

describe("with a sign-in at the project's issuer", () => {
  beforeEach(async () => {
    authServer.addRedirectUris(`${world.url}/signin/callback`);
    const { clientId, clientSecret } = authServer.clients.post;
    await settle({
      consentProof: "sign-in",
      signIn: { name: "corp", issuer: authServer.issuer, clientId, clientSecret },
      users: { assertedAs: { issuer: authServer.issuer, claim: "sub" } },
    });
  });

  test("the right person signs in, sees who they are, and allows", async () => {
    const { page } = await person({ account: "ann" });
    await page.goto(await ask());
    expect(await heading(page)).toBe("First, sign in");
    expect(await page.locator("main").innerText()).not.toMatch(/notes|ann/);
    expect(await faultsOf(page)).toEqual([]);
    await shoot(page, "flow-sign-in");
    await press(page, "Sign in");
    expect(await heading(page)).toBe("Connect notes");
    expect(await page.locator("main").innerText()).toContain("You are signed in as app:ann");
    await shoot(page, "flow-sign-in-ask");
    await press(page, "Allow");
    expect(await heading(page)).toBe("Connected to notes");
    expect(await whoami()).toBe("ann");
  });

  test("another person is refused, dully, and the right one can still do it", async () => {
    const link = await ask();
    const eve = await person({ account: "eve" });
    await eve.page.goto(link);
    await press(eve.page, "Sign in");
    expect(await heading(eve.page)).toBe("This does not go on here");
    expect(await eve.page.content()).not.toMatch(/notes|ann/);
    expect(await refusals()).toEqual(["other_user"]);
    await eve.page.goto(link);
    expect(await heading(eve.page)).toBe("First, sign in");

    const right = await person({ account: "ann" });
    await right.page.goto(link);
    await press(right.page, "Sign in");
    await press(right.page, "Allow");
    expect(await heading(right.page)).toBe("Connected to notes");
  });

  test("a sign-in that is cancelled says so, and can be tried again", async () => {
    const { page } = await person({ account: "ann", answer: "decline" });
    await page.goto(await ask());
    await press(page, "Sign in");
    expect(await heading(page)).toBe("You are not signed in");
    expect(await faultsOf(page)).toEqual([]);
    await shoot(page, "flow-sign-in-cancelled");
    await page.getByRole("link", { name: "Try again" }).click();
    expect(await heading(page)).toBe("First, sign in");
  });
});
