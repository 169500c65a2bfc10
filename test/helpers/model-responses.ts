import { createServer } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

type Json = Record<string, unknown>;

/** A body of `POST /responses`, as far as scripts read it. */
export type ResponsesRequest = {
  model: string;
  input: (Json & { type: string })[];
  tools?: (Json & { name: string })[];
  include?: string[];
  [field: string]: unknown;
};

/** What the model does with one request. */
export type ResponsesTurn =
  /** Its output items, in order, streamed as OpenAI streams them. */
  | Speech
  /** It answers with an HTTP status and a body of JSON. */
  | { status: number; body?: unknown }
  /**
   * It writes exactly this: a string as it is, anything else as one event. What ends, ends the answer; what waits, hangs.
   */
  | { events: Iterable<unknown> | AsyncIterable<unknown> };

type Speech = { says: Said[]; incomplete?: string; failed?: Json; usage?: Json };

export type Said =
  /** `logprobs` is said only to those who include it: of each word one, of the whole all. */
  | { text: string; phase?: string; annotations?: Json[]; logprobs?: Json[] }
  | { refusal: string }
  | { call: string; arguments: unknown; id?: string }
  /** `encrypted` is said only to those who include it. */
  | { reasoning: string[]; encrypted?: string; content?: string; id?: string };

type Play = (request: ResponsesRequest) => ResponsesTurn | Promise<ResponsesTurn>;

export type ResponsesModel = {
  /** Ends in `/v1`. */
  baseUrl: string;
  requests: { headers: IncomingHttpHeaders; body: ResponsesRequest }[];
  close: () => Promise<void>;
};

/** A model upstream that speaks the Responses API as OpenAI does, streamed only, and says what its script says. */
export async function startResponsesModel(script: ResponsesTurn[] | Play): Promise<ResponsesModel> {
  const requests: ResponsesModel["requests"] = [];
  let made = 0;
  const newId = (prefix: string) => `${prefix}_${String(++made).padStart(8, "0")}`;
  const answer = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    if (incoming.method !== "POST" || incoming.url !== "/v1/responses") {
      sendJson(outgoing, 404, { error: { message: `no such route: ${incoming.method} ${incoming.url}` } });
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const body = JSON.parse(Buffer.concat(chunks).toString("utf8")) as ResponsesRequest;
    const turn = typeof script === "function" ? await script(body) : script[requests.length];
    requests.push({ headers: incoming.headers, body });
    const fault = faultOf(body);
    if (fault !== null) return sendJson(outgoing, 400, { error: { message: fault, code: null } });
    if (!turn) return sendJson(outgoing, 500, { error: { message: "the script has run out" } });
    if ("status" in turn) return sendJson(outgoing, turn.status, turn.body ?? {});
    await send(outgoing, "events" in turn ? turn.events : eventsOf(turn, body, newId));
  };
  const server = createServer((incoming, outgoing) => {
    answer(incoming, outgoing).catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    requests,
    close: () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    },
  };
}

/** What OpenAI refuses with 400, and a broker could get wrong. */
function faultOf({ input, store, stream }: ResponsesRequest): string | null {
  if (store !== false || stream !== true) return "this test wants store false and stream true";
  const outputs = input.filter(({ type }) => type === "function_call_output").map((item) => item["call_id"]);
  const calls = input.filter(({ type }) => type === "function_call").map((item) => item["call_id"]);
  const open = calls.find((id) => !outputs.includes(id));
  if (open !== undefined) return `No tool output found for function call ${JSON.stringify(open)}.`;
  if (outputs.some((id) => !calls.includes(id))) return "No tool call found for function call output.";
  for (const [at, item] of input.entries()) {
    if (item.type !== "reasoning") continue;
    if (item["encrypted_content"] === undefined && item["content"] === undefined)
      return `Item '${String(item["id"])}' not found. Items are not persisted when store is false.`;
    const next = input.slice(at + 1).find(({ type }) => type !== "reasoning");
    if (!next || next.type === "function_call_output" || next["role"] === "user")
      return `Item '${String(item["id"])}' of type 'reasoning' was provided without its required following item.`;
  }
  return null;
}

function* eventsOf(turn: Speech, body: ResponsesRequest, newId: (prefix: string) => string): Generator<Json> {
  const head = { id: newId("resp"), object: "response", model: body.model, created_at: 1, error: null };
  const begun = { ...head, status: "in_progress", output: [], usage: null };
  yield { type: "response.created", response: begun };
  yield { type: "response.in_progress", response: begun };
  const output: Json[] = [];
  for (const said of turn.says) {
    const item: Json = itemOf(said, body, newId);
    const place = { output_index: output.length, item_id: item["id"] };
    yield* itemEvents(said, item, place);
    output.push(item);
  }
  const usage = turn.usage ?? { input_tokens: 10, output_tokens: 5, total_tokens: 15 };
  const ended = { ...head, output, usage };
  if (turn.failed) {
    yield { type: "response.failed", response: { ...ended, status: "failed", error: turn.failed } };
  } else if (turn.incomplete !== undefined) {
    const details = { status: "incomplete", incomplete_details: { reason: turn.incomplete } };
    yield { type: "response.incomplete", response: { ...ended, ...details } };
  } else yield { type: "response.completed", response: { ...ended, status: "completed" } };
}

function itemOf(said: Said, body: ResponsesRequest, newId: (prefix: string) => string): Json {
  if ("text" in said || "refusal" in said) {
    const part =
      "text" in said
        ? {
            type: "output_text",
            text: said.text,
            annotations: said.annotations ?? [],
            logprobs: logprobsOf(said, body),
          }
        : { type: "refusal", refusal: said.refusal };
    const phase = "text" in said && said.phase !== undefined ? { phase: said.phase } : {};
    const head = { type: "message", id: newId("msg"), role: "assistant", status: "completed", ...phase };
    return { ...head, content: [part] };
  }
  if ("call" in said) {
    const args = typeof said.arguments === "string" ? said.arguments : JSON.stringify(said.arguments);
    const call_id = said.id ?? newId("call");
    return {
      type: "function_call",
      id: newId("fc"),
      call_id,
      name: said.call,
      arguments: args,
      status: "completed",
    };
  }
  const shows = body.include?.includes("reasoning.encrypted_content") && said.encrypted !== undefined;
  return {
    type: "reasoning",
    id: said.id ?? newId("rs"),
    summary: said.reasoning.map((text) => ({ type: "summary_text", text })),
    ...(said.content !== undefined && { content: [{ type: "reasoning_text", text: said.content }] }),
    ...(shows && { encrypted_content: said.encrypted }),
  };
}

function logprobsOf({ logprobs = [] }: { logprobs?: Json[] }, { include }: ResponsesRequest): Json[] {
  return include?.includes("message.output_text.logprobs") ? logprobs : [];
}

function* itemEvents(said: Said, item: Json, place: Json): Generator<Json> {
  const added = (empty: Json) => ({
    type: "response.output_item.added",
    output_index: place["output_index"],
    item: { ...item, ...empty },
  });
  const [part] = (item["content"] ?? []) as Json[];
  const at = { ...place, content_index: 0 };
  if ("text" in said) {
    yield added({ status: "in_progress", content: [] });
    const logprobs = (part?.["logprobs"] ?? []) as Json[];
    const empty = { annotations: [], logprobs: [] };
    yield { type: "response.content_part.added", ...at, part: { ...part, ...empty, text: "" } };
    for (const [word, delta] of said.text.split(/(?<= )/).entries())
      yield {
        type: "response.output_text.delta",
        ...at,
        delta,
        logprobs: logprobs.slice(word, word + 1),
      };
    for (const [annotation_index, annotation] of (said.annotations ?? []).entries())
      yield { type: "response.output_text.annotation.added", ...at, annotation_index, annotation };
    yield { type: "response.output_text.done", ...at, text: said.text, logprobs };
    yield { type: "response.content_part.done", ...at, part };
  } else if ("refusal" in said) {
    yield added({ status: "in_progress", content: [] });
    yield { type: "response.content_part.added", ...at, part: { ...part, refusal: "" } };
    yield { type: "response.refusal.delta", ...at, delta: said.refusal };
    yield { type: "response.refusal.done", ...at, refusal: said.refusal };
    yield { type: "response.content_part.done", ...at, part };
  } else if ("call" in said) {
    const args = String(item["arguments"]);
    yield added({ status: "in_progress", arguments: "" });
    for (const delta of [args.slice(0, 3), args.slice(3)].filter(Boolean))
      yield { type: "response.function_call_arguments.delta", ...place, delta };
    yield { type: "response.function_call_arguments.done", ...place, arguments: args };
  } else {
    yield added({ summary: [], ...(said.content !== undefined && { content: [] }) });
    for (const [summary_index, text] of said.reasoning.entries()) {
      const where = { ...place, summary_index };
      const box = { type: "summary_text", text };
      yield { type: "response.reasoning_summary_part.added", ...where, part: { ...box, text: "" } };
      yield { type: "response.reasoning_summary_text.delta", ...where, delta: text };
      yield { type: "response.reasoning_summary_text.done", ...where, text };
      yield { type: "response.reasoning_summary_part.done", ...where, part: box };
    }
    if (said.content !== undefined) {
      yield { type: "response.reasoning_text.delta", ...at, delta: said.content };
      yield { type: "response.reasoning_text.done", ...at, text: said.content };
    }
  }
  yield { type: "response.output_item.done", output_index: place["output_index"], item };
}

async function send(
  outgoing: ServerResponse,
  events: Iterable<unknown> | AsyncIterable<unknown>,
): Promise<void> {
  outgoing.writeHead(200, { "content-type": "text/event-stream" });
  outgoing.flushHeaders();
  let sequence_number = 0;
  for await (const event of events) {
    if (outgoing.destroyed) return;
    const text = typeof event === "string" ? event : frameOf(event as Json, sequence_number++);
    if (!outgoing.write(text)) await drained(outgoing);
  }
  outgoing.end();
}

function frameOf(event: Json, sequence_number: number): string {
  return `event: ${String(event["type"])}\ndata: ${JSON.stringify({ ...event, sequence_number })}\n\n`;
}

function drained(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const goOn = () => {
      outgoing.off("drain", goOn).off("close", goOn);
      resolve();
    };
    outgoing.on("drain", goOn).on("close", goOn);
  });
}

function sendJson(outgoing: ServerResponse, status: number, body: unknown): void {
  outgoing.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
