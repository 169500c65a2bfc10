import packages from "../../package.json" with { type: "json" };
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { runScript } from "../helpers/document-scripts.ts";
import { blocksOf, blockThatBegins, type CodeBlock, textOf } from "../helpers/documents.ts";
import { type EverythingServer, startEverything } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

let blocks: CodeBlock[];
let world: TestWorld;
let sample: EverythingServer;
let model: ScriptedModel;
let turns: ScriptedTurn[] = [];

beforeAll(async () => {
  blocks = await blocksOf("clients.md");
  [sample, model] = await Promise.all([
    startEverything(),
    startModel(() => turns.shift() ?? { status: 400, body: {} }),
  ]);
  world = await createWorld({ model });
  await world.connect("sample", { target: sample.url });
});
beforeEach(() => {
  turns = [
    { calls: [{ name: "sample__echo", arguments: { message: "hello" } }] },
    { text: "The sample server says hello." },
  ];
});
afterAll(async () => {
  await world.stop();
  await Promise.all([sample.stop(), model.close()]);
});

test.each(["openai.mjs", "agents.mjs", "ai-sdk.mjs", "langchain.mjs"])(
  "%s asks, is allowed to, and says what came of it, with two variables and no warning",
  async (name) => {
    const { baseURL, apiKey } = await world.runtime();
    const { code, output } = await runScript(blockThatBegins(blocks, `// ${name}`), {
      OPENAI_BASE_URL: baseURL,
      OPENAI_API_KEY: apiKey ?? "",
    });
    expect(output.split("\n")).toEqual([
      expect.stringMatching(/^Allowed: (mcp\.)?echo \{"message":"hello"\}$/),
      "The sample server says hello.",
      "",
    ]);
    expect(code).toBe(0);
    expect(JSON.stringify(model.requests.at(-1)?.body.messages)).toContain("Echo: hello");
  },
);

test("conversation.mjs goes on where the conversation was", async () => {
  const { baseURL, apiKey } = await world.runtime();
  turns.push({ text: "It said hello." });
  const { code, output } = await runScript(blockThatBegins(blocks, "// conversation.mjs"), {
    OPENAI_BASE_URL: baseURL,
    OPENAI_API_KEY: apiKey ?? "",
  });
  expect([code, output]).toEqual([0, "It said hello.\n"]);
  expect(JSON.stringify(model.requests.at(-1)?.body.messages)).toContain("Echo: hello");
});

test("the versions that the document names are those that the tests drive", async () => {
  const { dependencies, devDependencies } = packages;
  const pinned: Record<string, string> = { ...devDependencies, ...dependencies };
  const table =
    (await textOf("clients.md")).split("\n").find((line) => line.startsWith("| | `openai`")) ?? "";
  const named = [...table.matchAll(/`([^`]+)` (\d+\.\d+)/g)].map(([, name = "", version = ""]) => ({
    name,
    version,
  }));
  expect(named.map(({ name }) => name)).toEqual([
    "openai",
    "@openai/agents",
    "ai",
    "@ai-sdk/openai",
    "@langchain/openai",
  ]);
  expect(named.filter(({ name, version }) => !pinned[name]?.startsWith(`${version}.`))).toEqual([]);
});
