// The proof `runtime`: an application that knows its signed-in person says who sits at the browser.
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Page } from "playwright-core";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type Person, shoot, startBrowser, type TestBrowser } from "../helpers/browser.ts";
import { linkOf } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let browser: TestBrowser;
let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let application: Server;
let applicationUrl: string;
let key: string;
let ann: OpenAI;
const people: Person[] = [];
/** Who is signed in at the application, by a cookie that it gave. */
const confirmations: number[] = [];

beforeAll(async () => {
  browser = await startBrowser();
});
afterAll(() => browser.stop());
beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld({ env: { CONSENTRY_CONSENT_PROOF: "runtime", CONSENTRY_AUDIT: "sync" } });
  application = createServer((incoming, response) => {
    serve(new URL(incoming.url ?? "/", applicationUrl), incoming.headers.cookie ?? "").then(
      ({ status, headers, body }) => response.writeHead(status, headers).end(body),
      () => response.destroy(),
    );
  });
  application.listen(0, "127.0.0.1");
  await once(application, "listening");
  const { port } = application.address() as AddressInfo; // Seam: it listens on a port.
  applicationUrl = `http://127.0.0.1:${port}`;
  await world.connect("notes", {
    authType: "OAuth2",
    target: server.url,
    credentials: {},
    requireApproval: "never",
  });
  const made = await world.rest("POST", "/api/projects/default/keys", {
    name: "web-app",
    roles: ["runtime"],
    rights: ["act_for_users"],
    confirmUrl: `${applicationUrl}/confirm?tenant=1`,
    doneUrl: `${applicationUrl}/done?from=consent`,
  });
  key = String(made.body["key"]);
  ann = clientOf(world.url, key, { project: "default", user: "ann" });
});
afterEach(async () => {
  const closed = await Promise.allSettled(people.splice(0).map(({ close }) => close()));
  confirmations.length = 0;
  application.closeAllConnections();
  application.close();
  await world.stop();
  await server.stop();
  await authServer.stop();
  // What a browser finds fault with is a fault of ours, in every test.
  for (const one of closed) if (one.status === "rejected") throw one.reason;
});

/** The application's own pages: who is signed in there is in its cookie. */
async function serve(url: URL, cookie: string) {
  if (url.pathname !== "/confirm")
    return {
      status: 200,
      headers: { "content-type": "text/html" },
      body: `<h1>Back at the application</h1>`,
    };
  const user = /signed-in-as=(\w+)/.exec(cookie)?.[1] ?? "";
  const answer = await fetch(`${world.url}/api/projects/default/consents:confirm`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ code: url.searchParams.get("consent_code") ?? "none", user }),
  });
  confirmations.push(answer.status);
  const body = (await answer.json()) as { continue_url?: string }; // Seam: an answer of ours.
  if (body.continue_url === undefined)
    return { status: 200, headers: { "content-type": "text/html" }, body: `<h1>Not you</h1>` };
  return { status: 302, headers: { location: body.continue_url }, body: "" };
}

async function person(user: string): Promise<Page> {
  const made = await browser.person({ account: `${user}@provider` });
  people.push(made);
  await made.page
    .context()
    .addCookies([{ name: "signed-in-as", value: user, domain: "127.0.0.1", path: "/" }]);
  return made.page;
}

const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const ask = async () => linkOf(await ann.responses.create({ tools, input: [call("notes", "whoami", {})] }));
const heading = (page: Page) => page.locator("h1").innerText();
const press = (page: Page, name: string) => page.getByRole("button", { name }).click();

test("the person whom the application knows allows, and ends up there", async () => {
  const page = await person("ann");
  await page.goto(await ask());
  expect(confirmations).toEqual([200]);
  expect(await heading(page)).toBe("Connect notes");
  expect(await page.locator("main").innerText()).toContain("knows you as app:ann");
  await shoot(page, "flow-runtime-ask");
  await press(page, "Allow");
  expect(await heading(page)).toBe("Back at the application");
  const { searchParams } = new URL(page.url());
  expect(Object.fromEntries(searchParams)).toEqual({
    from: "consent",
    consent_id: expect.stringMatching(/^oauthreq_/),
    status: "connected",
  });
  const response = await ann.responses.create({ tools, input: [call("notes", "whoami", {}, "call_2")] });
  expect(itemsOf(response, "mcp_call")[0]?.output).toBe("ann@provider");
});

test("the person declines, and ends up there, too", async () => {
  const page = await person("ann");
  await page.goto(await ask());
  await press(page, "Decline");
  expect(await heading(page)).toBe("Back at the application");
  expect(new URL(page.url()).searchParams.get("status")).toBe("declined");
});

test("somebody else with the link is not confirmed, and nothing is spoilt", async () => {
  const link = await ask();
  const eve = await person("eve");
  await eve.goto(link);
  expect(await heading(eve)).toBe("Not you");
  expect(confirmations).toEqual([403]);
  const right = await person("ann");
  await right.goto(link);
  expect(await heading(right)).toBe("Connect notes");
});

test("the way back to us is worth nothing in another browser", async () => {
  const link = await ask();
  const right = await person("ann");
  let onward = "";
  right.on("response", (response) => {
    if (response.url().includes("/confirm")) onward = response.headers()["location"] ?? "";
  });
  await right.goto(link);
  expect(onward).toContain("/consent/continue/");
  const eve = await person("eve");
  expect((await eve.goto(onward))?.status()).toBe(403);
  expect(await heading(eve)).toBe("This does not go on here");
});
