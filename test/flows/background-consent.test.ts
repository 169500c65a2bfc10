// A person is asked in the middle of what nobody waits for: the question ends the response, and its link is never stored.
import type { ResponseStreamEvent } from "openai/resources/responses/responses";
import { afterAll, beforeAll, expect, test } from "vitest";
import { backgroundAad } from "../../src/core/background.ts";
import type { ResponseId } from "../../src/core/ids.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { allow, consentsOf, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;

beforeAll(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld();
  await world.connect("notes", {
    authType: "OAuth2",
    target: server.url,
    credentials: {},
    requireApproval: "never",
  });
});
afterAll(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const body = {
  background: true,
  tools: [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }],
  input: [call("notes", "whoami", {}, "c1")],
};

test("a consent that is missing ends it with the question, and what waited runs in the background, too", async () => {
  await world.rest("PATCH", "/api/projects/default/settings", { consent_event: true });
  const ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  const over = async (id: string) => {
    await expect.poll(async () => (await ann.responses.retrieve(id)).status).toBe("completed");
    return ann.responses.retrieve(id);
  };
  const { id } = await ann.responses.create(body);
  const asked = await over(id);
  expect(asked.output.map(({ type }) => type as string)).toEqual(["oauth_consent_request", "message"]);
  const link = linkOf(asked);
  expect(asked.output_text).toContain(link);

  const events: ResponseStreamEvent[] = [];
  for await (const event of await ann.responses.retrieve(id, { stream: true })) events.push(event);
  expect(events.map(({ type }) => type as string)).toEqual([
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.output_item.added",
    "response.oauth_consent_requested",
    "response.output_item.done",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
  ]);
  // It is in all that says an item or its words.
  expect(events.filter((event) => JSON.stringify(event).includes(link))).toHaveLength(8);
  expect(consentsOf(asked)).toHaveLength(1);

  const { store, sealer } = world.world;
  const own = id as ResponseId;
  const batches = await store.background.batches("default", own, 0, 100);
  const kept = await Promise.all(
    batches.map(({ seq, sealed }) => sealer.open(sealed, backgroundAad("default", own, seq))),
  );
  expect(kept.join()).toContain("oauth_consent_request");
  expect(kept.join()).not.toContain("/consent/");

  await allow(person(authServer, "ann@provider"), link);
  const resumed = await ann.responses.create({ background: true, previous_response_id: id, input: [] });
  expect(itemsOf(await over(resumed.id), "mcp_call")).toMatchObject([{ id: "c1", output: "ann@provider" }]);
});
