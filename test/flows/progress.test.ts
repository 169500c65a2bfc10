import type OpenAI from "openai";
import type { ResponseStreamEvent } from "openai/resources/responses/responses";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startModel, type ScriptedModel } from "../helpers/model.ts";
import { type SessionfulServer, startSessionfulServer, telling } from "../helpers/sessionful-server.ts";
import { call, createWorld, itemsOf, streamed, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let server: SessionfulServer;
let model: ScriptedModel;
let client: OpenAI;

beforeAll(async () => {
  server = await startSessionfulServer({ work: telling(3, 300), other: telling(2, 300) });
  model = await startModel((request) =>
    request.messages.some(({ role }) => role === "tool")
      ? { text: "It is done." }
      : { calls: [{ id: "c1", name: "lab__work", arguments: "{}" }] },
  );
  world = await createWorld({ model });
  await world.connect("lab", { target: server.url });
  client = await world.runtime();
});
afterAll(async () => {
  await world.stop();
  await Promise.all([server.stop(), model.close()]);
});

const lab = { type: "mcp" as const, server_label: "lab", require_approval: "never" as const };
const tokens = () =>
  server
    .seen("tools/call")
    .map(({ body }) => (body?.params?.["_meta"] as { progressToken?: unknown } | undefined)?.progressToken);

/** What the events of one call told, between its beginning and its end. */
function toldOf(events: ResponseStreamEvent[], id: string) {
  const own = events.filter((event) => "item_id" in event && event.item_id === id);
  const types = own.map(({ type }) => type.replace("response.", ""));
  const told = own.flatMap((event) => ("progress" in event ? [event.progress] : []));
  return { types: types.filter((type, at) => type !== types[at - 1]), told };
}

const ORDER = [
  "mcp_call.in_progress",
  "mcp_call_arguments.delta",
  "mcp_call_arguments.done",
  "mcp_call.in_progress",
  "mcp_call.completed",
];

describe("the progress of a call", () => {
  test("reaches who streams, as more of the event that says that it runs", async () => {
    const input = [call("lab", "work", {}, "c1"), call("lab", "other", {}, "c2")];
    const { response, events } = await streamed(client, { tools: [lab], input });
    for (const [id, total] of [
      ["c1", 3],
      ["c2", 2],
    ] as const) {
      const { types, told } = toldOf(events, id);
      expect(types).toEqual(ORDER);
      expect(told[0]).toEqual({ progress: 1, total, message: "step 1" });
    }
    expect(itemsOf(response, "mcp_call").map(({ output }) => output)).toEqual([
      "done in 3 steps",
      "done in 2 steps",
    ]);
  });

  test("reaches who streams also where a model made the call", async () => {
    const { response, events } = await streamed(client, { model: "m", tools: [lab], input: "work" });
    const [made] = itemsOf(response, "mcp_call");
    expect(toldOf(events, made?.id ?? "")).toEqual({
      types: ORDER,
      told: expect.arrayContaining([{ progress: 1, total: 3, message: "step 1" }]),
    });
    expect(response.output_text).toBe("It is done.");
  });

  test("reaches who approves and streams, and the lease is longer then", async () => {
    const asked = await client.responses.create({
      model: "m",
      tools: [{ ...lab, require_approval: "always" }],
      input: "work",
    });
    const approval = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    const stream = client.responses.stream({
      previous_response_id: asked.id,
      input: [{ type: "mcp_approval_response", approval_request_id: approval, approve: true }],
    });
    const events: ResponseStreamEvent[] = [];
    const leases: number[] = [];
    for await (const event of stream) {
      events.push(event);
      if (!("progress" in event)) continue;
      const row = await world.world.store.heldCalls.get("default", approval as `mcpr_${string}`);
      leases.push((row?.leaseUntil ?? 0) - Date.now());
    }
    const [made] = itemsOf(await stream.finalResponse(), "mcp_call");
    expect(toldOf(events, made?.id ?? "")).toMatchObject({ types: ORDER });
    expect(leases[0]).toBeGreaterThan(500_000);
  });

  test("is not asked for where nobody streams", async () => {
    const before = tokens().length;
    const response = await client.responses.create({ tools: [lab], input: [call("lab", "other", {})] });
    expect(itemsOf(response, "mcp_call")[0]?.output).toBe("done in 2 steps");
    expect(tokens().slice(before)).toEqual([undefined]);
    expect(tokens().slice(0, before)).not.toContain(undefined);
  });

  test("extends the limit of a connection for who streams, and for nobody else", async () => {
    await world.connect("hasty", { target: server.url, timeoutMs: 500 });
    const body = {
      tools: [{ ...lab, server_label: "hasty" }],
      input: [call("hasty", "work", {})],
    };
    const { response } = await streamed(client, body);
    expect(itemsOf(response, "mcp_call")[0]?.output).toBe("done in 3 steps");
    const late = await client.responses.create(body);
    expect(itemsOf(late, "mcp_call")[0]?.error).toMatchObject({ type: "http_error", code: 504 });
  });
});
