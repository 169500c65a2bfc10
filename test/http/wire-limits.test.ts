import { describe, expect, test } from "vitest";
import { isRefusal } from "../../src/core/errors.ts";
import { agentVersionDraft } from "../../src/http/wire/agents.ts";
import { connectionChange } from "../../src/http/wire/connections.ts";
import { keyDraft } from "../../src/http/wire/keys.ts";
import { readResponsesBody } from "../../src/http/wire/request.ts";
import { settingsChange } from "../../src/http/wire/settings.ts";
import { read, type Shape } from "../../src/http/wire/shape.ts";
import { measureComputing } from "../helpers/computing.ts";

type Told = { param: string; message: string };

function faultsOf(run: () => unknown): Told[] {
  try {
    run();
  } catch (error) {
    if (isRefusal(error, "invalid")) return error.details.faults;
    throw error;
  }
  return [];
}

const told = (body: unknown) => faultsOf(() => readResponsesBody(body));
const many = <T>(count: number, make: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => make(at));
const MANY = 300_000;
/** As a body writes it: an object literal would set the prototype. */
const parsed = (json: string): unknown => JSON.parse(json);

describe("a body full of faults is told its first twenty", () => {
  const record = Object.fromEntries(many(MANY, (at) => [`x${at}`, 1]));
  const mcp = { type: "mcp", server_label: "notes" };
  const bodies: [string, unknown][] = [
    ["input", { input: many(1_500, () => 1) }],
    ["listed tools", { input: [{ type: "mcp_list_tools", server_label: "a", tools: many(MANY, () => 1) }] }],
    [
      "a few lists of tools",
      {
        input: many(100, () => ({ type: "mcp_list_tools", server_label: "a", tools: many(1_000, () => 1) })),
      },
    ],
    ["parts", { input: [{ role: "user", content: many(MANY, () => 1) }] }],
    ["tools", { tools: many(MANY, () => 1) }],
    ["headers", { tools: [{ ...mcp, headers: record }] }],
    [
      "header names",
      { tools: [{ ...mcp, headers: Object.fromEntries(many(900, (at) => [`é${at}`, "é"])) }] },
    ],
    ["approval names", { tools: [{ ...mcp, require_approval: { never: many(2_000, () => 1) } }] }],
    ["metadata", { metadata: record }],
    ["chosen tools", { tool_choice: { type: "allowed_tools", mode: "auto", tools: many(MANY, () => 1) } }],
    ["all at once", { model: 1, metadata: record, input: many(1_500, () => 1), tools: many(MANY, () => 1) }],
  ];
  test.each(bodies)("%s", (_, body) => {
    const faults = told(body);
    expect(faults.length).toBeGreaterThan(0);
    expect(faults.length).toBeLessThanOrEqual(20);
  });

  const definition = { kind: "prompt", model: "m", structured_inputs: record };
  const shapes: [string, Shape<unknown>, unknown][] = [
    ["credentials", connectionChange, { properties: { credentials: { keys: record } } }],
    ["metadata", connectionChange, { properties: { metadata: record } }],
    ["roles", keyDraft, { name: "k", roles: many(MANY, () => 1) }],
    ["unknown settings", settingsChange, record],
    ["hosts", settingsChange, { adhocServers: many(MANY, () => 1) }],
    ["a definition", agentVersionDraft, { definition }],
  ];
  test.each(shapes)("%s of the administration", (_, shape, body) => {
    const faults = faultsOf(() => read(shape, body));
    expect(faults.length).toBeGreaterThan(0);
    expect(faults.length).toBeLessThanOrEqual(20);
  });

  test("a name of a megabyte is cut where it is told", () => {
    const [fault] = told({ tools: [{ ...mcp, headers: { ["é".repeat(1_000_000)]: "x" } }] });
    expect(fault?.param.length).toBeLessThanOrEqual(200);
    const unknown = faultsOf(() => read(settingsChange, { ["x".repeat(1_000_000)]: 1 }));
    expect(unknown[0]?.param.length).toBeLessThanOrEqual(200);
  });
});

describe("how many there may be of a thing", () => {
  const functionTool = (at: number) => ({ type: "function", name: `f${at}` });

  test("128 tools", () => {
    expect(told({ tools: many(128, functionTool) })).toEqual([]);
    expect(told({ tools: many(129, functionTool) })).toEqual([
      { param: "tools", message: "must have at most 128 tools" },
    ]);
  });

  test("2,000 input items", () => {
    expect(told({ input: many(2_000, () => ({ type: "x" })) })).toEqual([]);
    expect(told({ input: many(2_001, () => ({ type: "x" })) })).toEqual([
      { param: "input", message: "must have at most 2000 items" },
    ]);
  });

  test("1,000 parts of a message or of a function's output", () => {
    const content = (count: number) => many(count, () => ({ type: "input_text", text: "x" }));
    expect(told({ input: [{ role: "user", content: content(1_000) }] })).toEqual([]);
    expect(told({ input: [{ role: "user", content: content(1_001) }] })).toEqual([
      { param: "input[0].content", message: "must have at most 1000 parts" },
    ]);
    const output = { type: "function_call_output", call_id: "c", output: content(1_001) };
    expect(told({ input: [output] })).toEqual([
      { param: "input[0].output", message: "must have at most 1000 parts" },
    ]);
  });

  test("two functions of one name are refused", () => {
    expect(told({ tools: [functionTool(1), functionTool(2), functionTool(1)] })).toEqual([
      { param: "tools", message: "has two functions named 'f1'" },
    ]);
  });
});

describe("how long a name may be", () => {
  const long = (chars: number) => "x".repeat(chars);
  const calling = { type: "mcp_call", server_label: "a", name: "b", arguments: "{}" };
  const cases: [string, number, (name: string) => unknown][] = [
    ["tools[0].server_label", 128, (name) => ({ tools: [{ type: "mcp", server_label: name }] })],
    ["input[0].server_label", 128, (name) => ({ input: [{ ...calling, server_label: name }] })],
    ["input[0].name", 256, (name) => ({ input: [{ ...calling, name }] })],
    ["input[0].id", 256, (name) => ({ input: [{ ...calling, id: name }] })],
    ["input[0].id", 256, (name) => ({ input: [{ type: "reasoning", id: name }] })],
    ["input[0].id", 256, (name) => ({ input: [{ type: "item_reference", id: name }] })],
    ["input[0].approval_request_id", 256, (name) => ({ input: [{ ...calling, approval_request_id: name }] })],
    [
      "input[0].approval_request_id",
      256,
      (name) => ({ input: [{ type: "mcp_approval_response", approval_request_id: name, approve: true }] }),
    ],
    [
      "input[0].call_id",
      256,
      (name) => ({ input: [{ type: "function_call_output", call_id: name, output: "" }] }),
    ],
    ["model", 256, (name) => ({ model: name })],
    ["previous_response_id", 256, (name) => ({ previous_response_id: name })],
    ["agent_reference.name", 256, (name) => ({ agent_reference: { name } })],
    ["tool_choice.server_label", 128, (name) => ({ tool_choice: { type: "mcp", server_label: name } })],
  ];
  test.each(cases)("%s, at most %i characters", (param, most, body) => {
    expect(told(body(long(most)))).toEqual([]);
    expect(told(body(long(most + 1)))).toEqual([{ param, message: `must have at most ${most} characters` }]);
  });
});

describe("names that every object knows are names like others", () => {
  test.each(["constructor", "__proto__", "toString", "hasOwnProperty"])(
    "an item or a part of type %s",
    (type) => {
      const { request } = readResponsesBody({
        input: [{ type }, { role: "user", content: [{ type }] }],
      });
      expect(request.input).toMatchObject([
        { kind: "other", body: { type } },
        { kind: "message", content: [{ kind: "other", body: { type } }] },
      ]);
    },
  );

  test("a header named __proto__ is refused, not dropped", () => {
    const headers = parsed('{"__proto__": "x"}');
    expect(told({ tools: [{ type: "mcp", server_label: "a", headers }] })).toEqual([
      { param: "tools[0].headers.__proto__", message: "is not for a connection to set" },
    ]);
  });

  test("metadata named __proto__ is kept", () => {
    const { request } = readResponsesBody({ metadata: parsed('{"__proto__": "x", "a": "b"}') });
    expect(Object.entries(request.metadata)).toEqual([
      ["__proto__", "x"],
      ["a", "b"],
    ]);
  });
});

test("forty thousand functions are refused at once", () => {
  const tools = many(40_000, (at) => ({ type: "function", name: `f${at}` }));
  const computedMs = measureComputing();
  expect(told({ tools })).toHaveLength(1);
  expect(computedMs()).toBeLessThan(200);
});
