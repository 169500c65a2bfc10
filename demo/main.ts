// The whole story, offline: a broker, real MCP servers, a real authorization server, a scripted model, and an agent runtime
// that is the unmodified `openai` package. Every step is checked; the demo fails when one does not do what it says.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import type { Response } from "openai/resources/responses/responses";
import { parseConfig } from "../src/config.ts";
import { start } from "../src/node.ts";
import { startEverything } from "./everything.ts";
import { tellIdentities } from "./identities.ts";
import { type ChatRequest, lastText, type ScriptedTurn, startModel } from "./model.ts";
import { startNotes } from "./notes.ts";
import { type Stage, tellPassthrough } from "./passthrough.ts";
import { createTranscript, shorten } from "./transcript.ts";

const transcript = createTranscript(console.log);
const { title, step, say, response: show } = transcript;

/** Records of plain calls are written in batches; this is longer than one takes. */
const AUDIT_BATCH_MS = 200;
const ADMIN_KEY = `csk_${crypto.randomUUID()}${crypto.randomUUID()}`.replaceAll("-", "");

/** The scripted model: it deletes what it is told to, and reports what came of it. */
function modelTurn({ messages }: ChatRequest): ScriptedTurn {
  const said = lastText({ messages } as ChatRequest);
  const id = /delete note (\d+)/.exec(said)?.[1];
  if (id !== undefined)
    return { text: "I will. ", calls: [{ name: "notes__delete_note", arguments: { id } }] };
  if (said === "who am I, over there?") return { calls: [{ name: "as-agent__whoami", arguments: {} }] };
  if (said.startsWith("Not run")) return { text: "Understood, I leave it where it is." };
  return { text: said };
}

/** The broker's clock, so that an hour can pass. */
let ahead = 0;
const clock = {
  now: () => Date.now() + ahead,
  sleep: (ms: number, signal?: AbortSignal) =>
    delay(ms, undefined, { ref: false, ...(signal && { signal }) }).catch(() => {}),
};

const folder = await mkdtemp(join(tmpdir(), "consentry-demo-"));
const closing: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })];
try {
  await tell();
} finally {
  for (const close of closing.toReversed()) await close();
}
console.log("\nDone: everything is stopped and nothing is left behind.\n");

async function tell(): Promise<void> {
  title("Consentry: one broker between agents and remote MCP servers");
  const model = await startModel(modelTurn);
  closing.push(model.close);
  const notes = await startNotes();
  closing.push(notes.stop);
  const everything = await startEverything();
  closing.push(everything.stop);
  const broker = await start(
    parseConfig({
      CONSENTRY_PORT: "0",
      CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
      CONSENTRY_ADMIN_KEY: ADMIN_KEY,
      CONSENTRY_MODEL_BASE_URL: model.baseUrl,
    }),
    { log: () => {}, clock },
  );
  closing.push(broker.stop);
  say("broker", broker.url);
  say("servers", `notes       ${notes.url}  (SDK v2, 2026-07-28, wants an API key)`);
  say("", `everything  ${everything.url}  (@modelcontextprotocol/server-everything, SDK v1, sessions)`);
  say("model", `${model.baseUrl}  (scripted, Chat Completions)`);

  step(
    "An admin makes two connections and a key for the runtime. The notes key is sealed and never comes back.",
  );
  const admin = restOf(broker.url);
  const made = await admin("PUT", "connections/notes", {
    properties: {
      authType: "CustomKeys",
      category: "RemoteTool",
      target: notes.url,
      credentials: { keys: { [notes.key.header]: notes.key.value } },
    },
  });
  assert.ok(!JSON.stringify(made).includes(notes.key.value));
  await admin("PUT", "connections/everything", {
    properties: { authType: "None", category: "RemoteTool", target: everything.url },
  });
  const { key } = await admin("POST", "keys", { name: "my-agent", roles: ["runtime"] });
  say("admin", `connection notes: credentials ${JSON.stringify(made["credentials"])}`);
  const diagnosis = await admin("POST", "connections/notes:validate", {});
  say("admin", `notes:validate -> ok: ${String(diagnosis["ok"])}, ${String(diagnosis["message"])}`);
  assert.equal(diagnosis["ok"], true);

  const openai = new OpenAI({ baseURL: `${broker.url}/api/projects/default/openai/v1`, apiKey: String(key) });

  step("The runtime lists the tools of both servers. No model is asked.");
  const mcp = (label: string, requireApproval: "always" | "never" = "never") =>
    ({ type: "mcp", server_label: label, require_approval: requireApproval }) as const;
  const listed = await openai.responses.create({ tools: [mcp("notes"), mcp("everything")] });
  show(listed);
  assert.deepEqual(kinds(listed), ["mcp_list_tools", "mcp_list_tools"]);

  step(
    "A runtime with a model of its own makes explicit calls: two servers, in parallel, answered in order.",
  );
  const explicit = (label: string, name: string, args: object) =>
    ({
      type: "mcp_call",
      id: `call_${name}`,
      server_label: label,
      name,
      arguments: JSON.stringify(args),
      status: "calling",
    }) as const;
  const called = await openai.responses.create({
    tools: [mcp("notes"), mcp("everything")],
    input: [explicit("notes", "list_notes", {}), explicit("everything", "get-sum", { a: 19, b: 23 })],
  });
  show(called);
  assert.deepEqual(kinds(called), ["mcp_call", "mcp_call"]);

  step("With a model, and a tool that needs approval: the call is held, not made.");
  say("user", "delete note 1");
  const asked = await stream(openai, {
    model: "demo",
    input: "delete note 1",
    tools: [mcp("notes", "always")],
  });
  const request = asked.output.find((item) => item.type === "mcp_approval_request");
  assert.ok(request && notes.notes.has("1"));

  step("The person approves. Exactly the stored call runs, once, and the model reads the result.");
  const decide = (id: string, approve: boolean, reason?: string) =>
    ({ type: "mcp_approval_response", approval_request_id: id, approve, ...(reason && { reason }) }) as const;
  say("user", `approve ${shorten(request.id)}`);
  const approved = await stream(openai, {
    previous_response_id: asked.id,
    input: [decide(request.id, true)],
  });
  assert.deepEqual(kinds(approved), ["mcp_call", "message"]);
  assert.ok(!notes.notes.has("1"));
  say("user", `approve ${shorten(request.id)} (the same request once more)`);
  const replayed = await openai.responses.create({
    previous_response_id: asked.id,
    input: [decide(request.id, true)],
  });
  show(replayed);
  assert.ok(!kinds(replayed).includes("mcp_call"));

  step("Another call is denied. Nothing runs, and the model is told why.");
  say("user", "delete note 2");
  const risky = await stream(openai, {
    model: "demo",
    input: "delete note 2",
    tools: [mcp("notes", "always")],
  });
  const second = risky.output.find((item) => item.type === "mcp_approval_request");
  assert.ok(second);
  say("user", `deny ${shorten(second.id)}: I still need it`);
  const denied = await stream(openai, {
    previous_response_id: risky.id,
    input: [decide(second.id, false, "I still need it")],
  });
  assert.deepEqual(kinds(denied), ["message"]);
  assert.ok(notes.notes.has("2"));

  const stage: Stage = {
    url: broker.url,
    admin,
    runtimeKey: String(key),
    transcript,
    advance: (ms) => (ahead += ms),
    now: clock.now,
    closing,
  };
  await tellIdentities(stage, await tellPassthrough(stage));

  step("The audit has every decision and every call, without arguments or secrets.");
  await delay(AUDIT_BATCH_MS);
  const { value } = (await admin("GET", "audit?limit=100")) as { value: Record<string, unknown>[] };
  for (const entry of value.toReversed()) {
    const what = [entry["connection"], entry["tool"]].filter(Boolean).join(" / ");
    const whom = typeof entry["user"] === "string" ? `for ${entry["user"]}` : "";
    const facts = [
      String(entry["event"]).padEnd(22),
      String(entry["outcome"]).padEnd(8),
      what.padEnd(24),
      whom,
    ];
    say("audit", facts.join(" ").trimEnd());
  }
  assert.ok(!JSON.stringify(value).includes(notes.key.value));
}

function kinds(response: Response): string[] {
  return response.output.map(({ type }) => type);
}

/** Asks for a stream, says when text comes, and shows the whole response at the end. */
async function stream(openai: OpenAI, body: Parameters<OpenAI["responses"]["stream"]>[0]): Promise<Response> {
  const events = openai.responses.stream(body);
  const seen: string[] = [];
  for await (const event of events) seen.push(event.type);
  const response = await events.finalResponse();
  show(response);
  say("stream", `${seen.length} events, ${seen[0]} … ${seen.at(-1)}`);
  return response;
}

function restOf(url: string) {
  return async (method: string, path: string, body?: unknown): Promise<Record<string, unknown>> => {
    const answer = await fetch(`${url}/api/projects/default/${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text);
  };
}
