// A5: the ids of somebody else. Unknown and foreign must not be told apart, by words or by time.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type OpenAI from "openai";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let alice: OpenAI;
let responseId: string;
let approvalId: string;
let itemId: string;

beforeAll(async () => {
  [world, notes] = await Promise.all([createWorld(), startModernServer()]);
  await world.connect("notes", { target: notes.url });
  alice = await world.runtime({ name: "app-a", rights: ["act_for_users"], user: "alice" });
  const input = [call("notes", "echo", { text: "alice's secret" }, "alices_call")];
  const tool = { type: "mcp" as const, server_label: "notes", require_approval: "never" as const };
  const done = await alice.responses.create({ tools: [tool], input });
  responseId = done.id;
  itemId = itemsOf(done, "mcp_call")[0]?.id ?? "";
  const asked = await alice.responses.create({ tools: [{ ...tool, require_approval: "always" }], input });
  approvalId = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
});
afterAll(async () => {
  await world.stop();
  await notes.stop();
});

const approve = (id: string) => ({
  type: "mcp_approval_response" as const,
  approval_request_id: id,
  approve: true,
});
const answer = (asked: Promise<unknown>) =>
  asked.then(
    () => "let in",
    (error: { status: number; message: string }) => ({ status: error.status, message: error.message }),
  );
/** What an attacker sees: the answer with the id that was asked for taken out. */
const dull = (seen: unknown, id: string) => JSON.stringify(seen).replaceAll(id, "ID");

const strangers: [string, () => Promise<OpenAI>][] = [
  ["another user of the same app", async () => world.runtime({ rights: ["act_for_users"], user: "bob" })],
  ["the app without a user", async () => world.runtime({ rights: ["act_for_users"] })],
  ["another key that names nobody", async () => world.runtime()],
];

describe.each(strangers)("%s", (_, clientOf) => {
  const unknownResponse = `resp_${"0".repeat(50)}`;
  const unknownApproval = `mcpr_${"0".repeat(50)}`;

  test.each([
    ["reads", (client: OpenAI, id: string) => client.responses.retrieve(id)],
    ["lists the input of", (client: OpenAI, id: string) => client.responses.inputItems.list(id)],
    ["deletes", (client: OpenAI, id: string) => client.responses.delete(id)],
    ["cancels", (client: OpenAI, id: string) => client.responses.cancel(id)],
    [
      "goes on from",
      (client: OpenAI, id: string) => client.responses.create({ previous_response_id: id, input: [] }),
    ],
  ] as const)("%s a response: foreign is unknown", async (_what, act) => {
    const client = await clientOf();
    const foreign = await answer(Promise.resolve(act(client, responseId)));
    const unknown = await answer(Promise.resolve(act(client, unknownResponse)));
    expect(dull(foreign, responseId)).toBe(dull(unknown, unknownResponse));
    expect(foreign).not.toBe("let in");
  });

  test("decides an approval: foreign is unknown", async () => {
    const client = await clientOf();
    const tools = [{ type: "mcp" as const, server_label: "notes" }];
    const foreign = await answer(client.responses.create({ tools, input: [approve(approvalId)] }));
    const unknown = await answer(client.responses.create({ tools, input: [approve(unknownApproval)] }));
    expect(dull(foreign, approvalId)).toBe(dull(unknown, unknownApproval));
    expect(foreign).toMatchObject({ status: 400 });
  });

  test("refers to an item: foreign is unknown", async () => {
    const client = await clientOf();
    const tools = [{ type: "mcp" as const, server_label: "notes" }];
    for (const id of [itemId, approvalId]) {
      const input = [{ type: "item_reference" as const, id }];
      const foreign = await answer(client.responses.create({ tools, input }));
      expect(dull(foreign, id)).toBe(
        dull({ status: 400, message: `400 input[0].id: there is no item '${id}'` }, id),
      );
    }
  });
});

test("alice's own app still reaches all of it", async () => {
  expect((await alice.responses.retrieve(responseId)).id).toBe(responseId);
  const done = await alice.responses.create({ input: [approve(approvalId)] });
  expect(itemsOf(done, "mcp_call")).toHaveLength(1);
});

test("a follow-up of the same key that names no user is for the stored one; a user of another project is nobody", async () => {
  const made = await world.rest("POST", "/api/projects/default/keys", {
    name: "one-app",
    roles: ["runtime"],
    rights: ["act_for_users"],
  });
  const headers = { authorization: `Bearer ${String(made.body["key"])}` };
  const path = "/api/projects/default/openai/v1/responses";
  const tools = [{ type: "mcp", server_label: "notes", require_approval: "never" }];
  const first = await world.rest("POST", path, { tools }, { ...headers, "x-ms-user-identity": "carol" });
  const second = await world.rest("GET", `${path}/${String(first.body["id"])}`, undefined, headers);
  expect(second.status).toBe(200);
  await world.rest("DELETE", "/api/projects/default/users/carol");
  const follow = await world.rest("POST", path, { previous_response_id: first.body["id"], tools }, headers);
  expect([follow.status, follow.body]).toMatchObject([403, { error: { code: "user_blocked" } }]);
});
