// The trace of a caller where the broker itself traces nothing: passed on as it came, or not at all.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, startModel } from "../helpers/model.ts";
import { ADMIN_KEY, call, createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let server: ModernServer;
let model: ScriptedModel;

beforeAll(async () => {
  server = await startModernServer();
  model = await startModel(() => ({ text: "done" }));
  world = await createWorld({ model });
  await world.connect("notes", { target: server.url });
});
afterAll(async () => {
  await world.stop();
  await Promise.all([server.stop(), model.close()]);
});

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const tools = [{ type: "mcp", server_label: "notes", require_approval: "never" }];
const post = (body: object, headers: Record<string, string>) =>
  fetch(`${world.url}/v1/responses`, {
    method: "POST",
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json", ...headers },
    body: JSON.stringify({ tools, ...body }),
  }).then((answer) => answer.text());
const echo = () => ({ input: [call("notes", "echo", { text: "x" })] });
const lastCall = () => server.seen("tools/call").at(-1)?.headers;
const lastAsked = () => model.requests.at(-1)?.headers;

describe.each([true, false])("stream: %s", (stream) => {
  test("a server hears of it", async () => {
    await post({ ...echo(), stream }, { traceparent, tracestate: "a=1" });
    expect([lastCall()?.get("traceparent"), lastCall()?.get("tracestate")]).toEqual([traceparent, "a=1"]);
    const meta = server.seen("tools/call").at(-1)?.body?.params?.["_meta"];
    expect(meta).toMatchObject({ traceparent, tracestate: "a=1" });
  });

  test("a model hears of it", async () => {
    await post({ model: "m", input: "hello", stream }, { traceparent, tracestate: "a=1" });
    expect(lastAsked()).toMatchObject({ traceparent, tracestate: "a=1" });
  });
});

test.each([
  { traceparent: "canary" },
  { traceparent: `${traceparent}-canary`, tracestate: "a=1" },
  { tracestate: "canary=1" },
  { baggage: "user=canary" },
])("%j goes nowhere, and changes nothing", async (headers) => {
  expect(JSON.parse(await post(echo(), headers))).toMatchObject({ status: "completed" });
  await post({ model: "m", input: "hello" }, headers);
  expect(JSON.stringify([...(lastCall() ?? [])])).not.toMatch(/canary|trace/);
  expect(JSON.stringify(lastAsked())).not.toMatch(/canary|trace/);
});
