// What a Worker's request left behind when its runtime ended it, in workerd: the next callers of the same isolate.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { answerResult, DISCOVERED, type RawServer, startRawServer } from "../helpers/mcp-servers.ts";
import { configWith } from "../helpers/worker-config.ts";
import { createWorkerWorld, type WorkerWorld } from "../helpers/worker.ts";
import { ADMIN_KEY, call } from "../helpers/world.ts";

let folder: string;
let world: WorkerWorld;
let server: RawServer;
/** The methods that the server does not answer now. */
let unanswered: string[] = [];

beforeAll(async () => {
  server = await startRawServer(async (request, response) => {
    const method = String(request.body?.method);
    if (unanswered.includes(method)) return;
    switch (method) {
      case "server/discover":
        return answerResult(request, response, DISCOVERED);
      case "tools/list": {
        const tool = { name: "echo", inputSchema: { type: "object" } };
        return answerResult(request, response, { resultType: "complete", tools: [tool], ttlMs: 0 });
      }
      default: {
        const content = [{ type: "text", text: "there" }];
        return answerResult(request, response, { resultType: "complete", content });
      }
    }
  });
  folder = await mkdtemp(join(tmpdir(), "consentry-worker-"));
  const door = join(import.meta.dirname, "../helpers/ended-worker.ts");
  world = await createWorkerWorld({ configPath: await configWith(door, folder) });
}, 120_000);
afterAll(async () => {
  await world.stop();
  await server.stop();
  await rm(folder, { recursive: true });
});

async function ask(label: string, headers: Record<string, string> = {}): Promise<string> {
  const answer = await fetch(`${world.url}/v1/responses`, {
    method: "POST",
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json", ...headers },
    body: JSON.stringify({
      tools: [{ type: "mcp", server_label: label, require_approval: "never" }],
      input: [call(label, "echo", {}, `mcp_${crypto.randomUUID()}`)],
    }),
  });
  return `${answer.status} ${await answer.text()}`;
}

test.each(["server/discover", "tools/list"])(
  "a %s that was never answered, and left, is asked again by whoever waits for it",
  async (method) => {
    const label = method.replaceAll("/", "-");
    await world.connect(label, { target: `${server.url}?of=${label}` });
    unanswered = [method];
    expect(await ask(label, { "x-leave": "500" })).toBe("200 left");
    unanswered = [];
    const began = Date.now();
    const answers = await Promise.all([ask(label), ask(label)]);
    for (const answer of answers) expect(answer).toMatch(/^200 .*"output":"there"/);
    expect(Date.now() - began).toBeLessThan(40_000);
    expect(await ask(label)).toMatch(/^200 .*"output":"there"/);
  },
  120_000,
);

test("a caller's places under way are its own again a minute after it left them", async () => {
  await world.connect("slow", { target: `${server.url}?of=slow` });
  await ask("slow");
  unanswered = ["tools/call"];
  const left = Array.from({ length: 128 }, (_, n) =>
    ask("slow", { "x-leave": "3000", "idempotency-key": `left-${n}` }),
  );
  await Promise.all(left);
  unanswered = [];
  expect(await ask("slow", { "idempotency-key": "next" })).toMatch(/^429 /);
  await new Promise((resolve) => setTimeout(resolve, 62_000));
  expect(await ask("slow", { "idempotency-key": "next" })).toMatch(/^200 .*"output":"there"/);
}, 180_000);
