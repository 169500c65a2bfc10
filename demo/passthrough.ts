import assert from "node:assert/strict";
import OpenAI from "openai";
import type { Response } from "openai/resources/responses/responses";
import { startAuthServer } from "./auth-server.ts";
import { createBrowser, headingOf, type Page } from "./browser.ts";
import { type ProtectedServer, startProtectedServer } from "./protected.ts";
import { type ConsentItem, consentsOf, type Transcript } from "./transcript.ts";

export type Stage = {
  /** The broker's. */
  url: string;
  /** Asks the project's REST API as its admin. */
  admin: (method: string, path: string, body?: unknown) => Promise<Record<string, unknown>>;
  /** A key of a runtime that acts for nobody. */
  runtimeKey: string;
  transcript: Transcript;
  /** Moves the broker's clock ahead. */
  advance: (ms: number) => void;
  /** Where that clock is. */
  now: () => number;
  /** What is started is stopped by these, the last one first. */
  closing: (() => Promise<unknown>)[];
};

/** The server that people reach by their own accounts, and who may ask there now. */
export type Passthrough = {
  server: ProtectedServer;
  /** Calls `whoami` for a person who has connected an account. */
  askAs: (name: "ann" | "bob") => Promise<Response>;
};

/** Two people, one server that knows them by their own accounts: links, consent, calls as each, refresh, and the way out. */
export async function tellPassthrough({
  url,
  admin,
  transcript,
  advance,
  closing,
}: Stage): Promise<Passthrough> {
  const { step, say, response: show } = transcript;
  const authServer = await startAuthServer(["ann@team.example", "bob@team.example"]);
  closing.push(authServer.stop);
  const server = await startProtectedServer({ authServer });
  closing.push(server.stop);

  step(
    "A server that knows people by their own accounts. The admin names its URL; the broker finds out the rest.",
  );
  say("server", `team-notes  ${server.url}  (lets nobody in without a token of ${authServer.issuer})`);
  await admin("PUT", "connections/team-notes", {
    properties: { authType: "OAuth2", category: "RemoteTool", target: server.url },
  });
  const { key } = await admin("POST", "keys", {
    name: "chat-app",
    roles: ["runtime"],
    rights: ["act_for_users"],
  });
  const runtimeOf = (user: string) =>
    new OpenAI({
      baseURL: `${url}/api/projects/default/openai/v1`,
      apiKey: String(key),
      defaultHeaders: { "x-ms-user-identity": user },
    });
  const ann = { name: "ann", openai: runtimeOf("ann"), browser: createBrowser() };
  const bob = { name: "bob", openai: runtimeOf("bob"), browser: createBrowser() };
  type Person = typeof ann;

  const ask = async ({ name, openai }: Person) => {
    say(name, "who am I, over there?");
    const response = await openai.responses.create({
      tools: [{ type: "mcp", server_label: "team-notes", require_approval: "never" }],
      input: [WHOAMI],
    });
    show(response);
    return response;
  };
  const resume = async ({ openai }: Person, previous: Response) => {
    const response = await openai.responses.create({ previous_response_id: previous.id, input: [] });
    show(response);
    return response;
  };
  const press = async ({ name, browser }: Person, page: Page, button: string) => {
    const next = await browser.press(page, button);
    say(name, `presses ${button} on ${new URL(page.url).host} -> "${headingOf(next)}"`);
    return next;
  };
  const open = async ({ name, browser }: Person, link: string) => {
    const page = await browser.open(link);
    say(name, `opens the link -> "${headingOf(page)}"`);
    return page;
  };
  const connect = async (person: Person, { consent_link }: ConsentItem) => {
    const question = await open(person, consent_link);
    const signIn = await press(person, question, "allow");
    const end = await press(person, signIn, `${person.name}@team.example`);
    assert.match(headingOf(end), /connected/i);
  };

  step("The runtime calls a tool for Ann and for Bob. Nobody has consented: each gets a link of their own.");
  const anns = await ask(ann);
  const bobs = await ask(bob);
  const annsItem = theOne(anns);
  const bobsItem = theOne(bobs);
  assert.notEqual(annsItem.consent_link, bobsItem.consent_link);
  assert.deepEqual(authServer.registered.length, 1);
  say("broker", `has found ${authServer.issuer} and registered itself there as a client`);

  step(
    "Ann opens hers, sees who asks and for what, allows, and signs in with her own account. Bob declines.",
  );
  await connect(ann, annsItem);
  await press(bob, await open(bob, bobsItem.consent_link), "decline");

  step("Both go on where they were. Ann's call runs as Ann; Bob's says why it does not.");
  assert.equal(outputOf(await resume(ann, anns)), "ann@team.example");
  assert.match(JSON.stringify((await resume(bob, bobs)).output), /declined to connect team-notes/);

  step("Bob thinks better of it. From now on each call carries the token of the person that it is made for.");
  await connect(bob, theOne(await ask(bob)));
  const [again, too] = await Promise.all([ask(ann), ask(bob)]);
  assert.deepEqual([outputOf(again), outputOf(too)], ["ann@team.example", "bob@team.example"]);

  step("An hour later Ann's access token has ended. It is renewed, and she is not asked.");
  advance(HOUR_MS);
  const granted = authServer.granted.length;
  assert.equal(outputOf(await ask(ann)), "ann@team.example");
  assert.deepEqual(authServer.granted.slice(granted), ["refresh_token"]);
  say("broker", "has sent one refresh_token request");

  step("Ann looks at what she connected, and disconnects it: here, and at the authorization server.");
  const link = await admin("POST", "me-links", { user: "ann" });
  const entrance = await open(ann, String(link["url"]));
  const accounts = await ann.browser.press(entrance);
  assert.ok(accounts.html.includes("team-notes"));
  const left = await press(ann, accounts, "disconnect");
  assert.match(left.html, /is disconnected/);
  assert.equal(authServer.revocations(), 1);
  say("ann", "is told that nothing is called with her account any more; the tokens are revoked");
  const anew = theOne(await ask(ann));
  assert.equal(outputOf(await ask(bob)), "bob@team.example");

  step("Ann connects it once more: a disconnect is no farewell.");
  const question = await open(ann, anew.consent_link);
  // She is signed in over there still, so nobody asks who she is.
  assert.match(headingOf(await press(ann, question, "allow")), /connected/i);
  return { server, askAs: (name) => ask(name === "ann" ? ann : bob) };
}

const WHOAMI = {
  type: "mcp_call",
  id: "call_whoami",
  server_label: "team-notes",
  name: "whoami",
  arguments: "{}",
  status: "calling",
} as const;
const HOUR_MS = 60 * 60 * 1000;

function theOne(response: Response): ConsentItem {
  const [item, ...others] = consentsOf(response);
  assert.ok(item && others.length === 0);
  return item;
}

function outputOf(response: Response): string | null | undefined {
  return response.output.find((item) => item.type === "mcp_call")?.output;
}
