import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type OpenAI from "openai";
import {
  answerJson,
  answerResult,
  DISCOVERED,
  type ModernServer,
  type RawServer,
  startModernServer,
  startRawServer,
} from "../helpers/mcp-servers.ts";
import { ADMIN_KEY, call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let client: OpenAI;

beforeAll(async () => {
  [world, notes] = await Promise.all([createWorld(), startModernServer()]);
  await world.connect("notes", { target: notes.url });
  client = await world.runtime();
});
afterAll(async () => {
  await world.stop();
  await notes.stop();
});

const never = (label: string) => ({
  type: "mcp" as const,
  server_label: label,
  require_approval: "never" as const,
});
const post = async (body: string, path = "/api/projects/default/openai/v1/responses") => {
  const response = await fetch(`${world.url}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
    body,
  });
  const answer = (await response.json()) as { error: { message: string; param: string | null } };
  return { status: response.status, ...answer.error };
};

describe("bodies", () => {
  test.each([
    ["malformed", '{"tools": [', 400],
    ["no object", "[1]", 400],
    ["empty", "", 400],
    ["deeper than 100", `{"input":${"[".repeat(101)}${"]".repeat(101)}}`, 400],
    ["over 4 MiB", JSON.stringify({ input: "x".repeat(4 * 1024 * 1024) }), 413],
  ])("%s", async (_, body, status) => {
    expect((await post(body)).status).toBe(status);
  });

  test("unknown project and unknown response are 404", async () => {
    expect((await post("{}", "/api/projects/nowhere/openai/v1/responses")).status).toBe(404);
    await expect(client.responses.retrieve("resp_nope")).rejects.toMatchObject({ status: 404 });
  });

  test("a model without an upstream says which setting is missing", async () => {
    const { status, message, param } = await post('{"model":"gpt-4o","input":"hi"}');
    expect([status, param]).toEqual([400, "model"]);
    expect(message).toContain("CONSENTRY_MODEL_BASE_URL");
  });

  test("more calls, tools or items than one request may have are refused, and quickly", async () => {
    const calls = Array.from({ length: 8_000 }, (_, at) => call("notes", "nope", {}, `c${at}`));
    const items = Array.from({ length: 100_000 }, () => ({ type: "x" }));
    const functions = Array.from({ length: 20_000 }, (_, at) => ({
      type: "function",
      name: `f${at}`,
      parameters: {},
    }));
    const begun = performance.now();
    for (const body of [
      { tools: [never("notes")], input: calls.slice(0, 129) },
      { tools: [never("notes")], input: calls },
      { tools: [never("notes")], input: items },
      { tools: functions },
    ]) {
      expect((await post(JSON.stringify(body))).status).toBe(400);
    }
    expect(performance.now() - begun).toBeLessThan(5_000);
    const most = await client.responses.create({ tools: [never("notes")], input: calls.slice(0, 128) });
    expect(itemsOf(most, "mcp_call")).toHaveLength(128);
  });

  test("a thousand tools are a thousand faults or a thousand lists, and no crash", async () => {
    const tools = Array.from({ length: 1_000 }, (_, at) => never(`tool-${at}`));
    expect((await post(JSON.stringify({ tools }))).status).toBe(400);
    const server = await startRawServer((request, response) => {
      if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
      const many = Array.from({ length: 1_000 }, (_, at) => ({
        name: `tool_${at}`,
        inputSchema: { type: "object" },
      }));
      answerResult(request, response, {
        resultType: "complete",
        tools: many,
        ttlMs: 0,
        cacheScope: "private",
      });
    });
    await world.connect("many", { target: server.url });
    const listed = await client.responses.create({ tools: [never("many")] });
    expect(itemsOf(listed, "mcp_list_tools")[0]?.tools).toHaveLength(1_000);
    await server.stop();
  });
});

describe("an upstream that misbehaves fails its own call, clearly and in time; the one beside it works", () => {
  type Handler = Parameters<typeof startRawServer>[0];
  const onCall =
    (act: Handler): Handler =>
    (request, response, incoming) => {
      if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
      if (request.body?.method !== "tools/list") return act(request, response, incoming);
      const tools = [{ name: "go", inputSchema: { type: "object" } }];
      answerResult(request, response, {
        resultType: "complete",
        tools,
        ttlMs: 60_000,
        cacheScope: "private",
      });
    };
  let elsewhere: RawServer;
  beforeAll(async () => {
    elsewhere = await startRawServer((request, response) => answerResult(request, response, {}));
  });
  afterAll(() => elsewhere.stop());

  const chunk = Buffer.alloc(1024 * 1024, "x");
  const cases: [string, Handler, RegExp][] = [
    ["hangs", () => {}, /"code":504/],
    [
      "streams for ever",
      (_, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        const timer = setInterval(() => response.write(": still here\n\n"), 20);
        response.on("close", () => clearInterval(timer));
      },
      /"code":504/,
    ],
    [
      "sends 1 GB",
      (_, response) => {
        response.writeHead(200, { "content-type": "application/json" });
        let left = 1024;
        const more = () => {
          while (left-- > 0 && !response.destroyed)
            if (!response.write(chunk)) return response.once("drain", more);
          return response.end();
        };
        more();
      },
      /"code":502/,
    ],
    ["sends no JSON-RPC", (_, response) => answerJson(response, { hello: "world" }), /"code":502/],
    [
      "sends no JSON",
      (_, response) => void response.writeHead(200, { "content-type": "application/json" }).end("{nope"),
      /"code":502/,
    ],
    [
      "closes mid-answer",
      (_, response) => {
        response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
        response.write("{", () => response.destroy());
      },
      /"code":502/,
    ],
    [
      "redirects elsewhere",
      (_, response) => void response.writeHead(307, { location: elsewhere.url }).end(),
      /"code":502/,
    ],
    ["answers 500", (_, response) => void response.writeHead(500).end("secret stack trace"), /"code":500/],
  ];

  const ENDLESS = ["hangs", "streams for ever"];
  test.each(cases)("%s", async (name, act, expected) => {
    const server = await startRawServer(onCall(act));
    const label = `bad-${name.replaceAll(/[^a-z]/g, "")}`.slice(0, 30);
    // Those that have no end of their own are given up; the others have time to come to theirs, however slow the machine.
    const timeoutMs = ENDLESS.includes(name) ? 1_000 : 30_000;
    await world.connect(label, { target: server.url, timeoutMs });
    const input = [call(label, "go", {}, "bad"), call("notes", "echo", { text: "fine" }, "good")];
    const response = await client.responses.create({ tools: [never(label), never("notes")], input });
    const [bad, good] = itemsOf(response, "mcp_call");
    expect(bad?.status).toBe("failed");
    expect(JSON.stringify(bad?.error)).toMatch(expected);
    expect(JSON.stringify(bad)).not.toContain("secret stack trace");
    expect(good?.output).toBe("fine");
    await server.stop();
  });

  test("nothing reached the place that a redirect named", () => {
    expect(elsewhere.requests).toEqual([]);
  });
});
