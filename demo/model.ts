import { createServer } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A body of `POST /chat/completions`, as far as scripts read it. */
export type ChatRequest = {
  model: string;
  messages: ChatMessage[];
  stream?: boolean;
  tools?: { type: string; function: { name: string; description?: string; parameters?: unknown } }[];
  [field: string]: unknown;
};

export type ChatMessage = {
  role: string;
  content?: unknown;
  tool_calls?: { id: string; type: string; function: { name: string; arguments: string } }[];
  tool_call_id?: string;
};

/** What the model does with one request. */
export type ScriptedTurn =
  /** It speaks, calls tools, or both. A text given as a list is sent in those pieces. */
  | {
      text?: string | string[];
      refusal?: string;
      calls?: ScriptedCall[];
      finish?: string;
      usage?: ScriptedUsage;
    }
  /** It answers with an HTTP status and a body (an object goes out as JSON). */
  | { status: number; body?: unknown; headers?: Record<string, string> }
  /**
   * It writes exactly this as an event stream: a string as it is, anything else as one event of JSON. What ends, ends
   * the answer; what throws, breaks the connection; what waits, hangs.
   */
  | { frames: Iterable<unknown> | AsyncIterable<unknown> };

/** `arguments`: JSON text, or a value to be written as such. Without an `id` one is made. */
export type ScriptedCall = { name: string; arguments: unknown; id?: string };

export type ScriptedUsage = {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens: number };
  completion_tokens_details?: { reasoning_tokens: number };
};

type TurnFor = (request: ChatRequest) => ScriptedTurn | Promise<ScriptedTurn>;

/** One turn after the other, or one function that answers every request. */
export type Script = (ScriptedTurn | TurnFor)[] | TurnFor;

export type SeenRequest = {
  path: string;
  headers: IncomingHttpHeaders;
  body: ChatRequest;
  /** Resolves when the client is gone before the answer was whole. */
  left: Promise<void>;
};

export type ScriptedModel = {
  /** Ends in `/v1`, as `CONSENTRY_MODEL_BASE_URL` wants it. */
  baseUrl: string;
  /** In the order in which they came. */
  requests: SeenRequest[];
  close: () => Promise<void>;
};

/**
 * A model upstream that speaks Chat Completions, streamed and not, and says what its script says. It listens on a free
 * port of 127.0.0.1. A script that has run out is answered with status 500.
 */
export async function startModel(script: Script): Promise<ScriptedModel> {
  const requests: SeenRequest[] = [];
  const ids = counter();
  const server = createServer((incoming, outgoing) => {
    answer(incoming, outgoing).catch(() => outgoing.destroy());
  });
  async function answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const path = incoming.url ?? "";
    if (incoming.method !== "POST" || !/^\/v1\/chat\/completions(\?|$)/.test(path)) {
      sendJson(outgoing, 404, { error: { message: `no such route: ${incoming.method} ${path}` } });
      return;
    }
    const left = new Promise<void>((resolve) => {
      outgoing.once("close", () => {
        if (!outgoing.writableFinished) resolve();
      });
    });
    const body = JSON.parse(await textOf(incoming)) as ChatRequest;
    const turn = typeof script === "function" ? script : script[requests.length];
    requests.push({ path, headers: incoming.headers, body, left });
    if (!turn) {
      sendJson(outgoing, 500, { error: { message: "the script has run out" } });
      return;
    }
    await play(typeof turn === "function" ? await turn(body) : turn, { outgoing, body, ids });
  }
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    requests,
    close: () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      return closed;
    },
  };
}

/** The last message of a request as text: what a script usually looks at. */
export function lastText({ messages }: ChatRequest): string {
  const content = messages.at(-1)?.content;
  return typeof content === "string" ? content : JSON.stringify(content ?? "");
}

type Stage = { outgoing: ServerResponse; body: ChatRequest; ids: () => number };

async function play(turn: ScriptedTurn, stage: Stage): Promise<void> {
  const { outgoing, body } = stage;
  if ("status" in turn) {
    for (const [name, value] of Object.entries(turn.headers ?? {})) outgoing.setHeader(name, value);
    if (typeof turn.body === "string") outgoing.writeHead(turn.status).end(turn.body);
    else sendJson(outgoing, turn.status, turn.body ?? {});
    return;
  }
  if ("frames" in turn) {
    await sendFrames(outgoing, turn.frames);
    return;
  }
  const completion = { id: `chatcmpl-${stage.ids()}`, created: 0, model: body.model };
  const calls = (turn.calls ?? []).map((call) => ({
    id: call.id ?? `call_${stage.ids()}`,
    name: call.name,
    arguments: typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments),
  }));
  const usage = turn.usage ?? { prompt_tokens: 10, completion_tokens: 5 };
  const total = { ...usage, total_tokens: usage.prompt_tokens + usage.completion_tokens };
  const finish_reason = turn.finish ?? (calls.length > 0 ? "tool_calls" : "stop");
  const pieces = typeof turn.text === "string" ? turn.text.split(/(?<= )/) : (turn.text ?? []);
  if (body.stream !== true) {
    const message = {
      role: "assistant",
      content: turn.text === undefined ? null : pieces.join(""),
      refusal: turn.refusal ?? null,
      ...(calls.length > 0 && {
        tool_calls: calls.map(({ id, ...called }) => ({ id, type: "function", function: called })),
      }),
    };
    const choices = [{ index: 0, message, finish_reason }];
    sendJson(outgoing, 200, { ...completion, object: "chat.completion", choices, usage: total });
    return;
  }
  const deltas = [
    { role: "assistant", content: "" },
    ...pieces.map((content) => ({ content })),
    ...(turn.refusal === undefined ? [] : [{ refusal: turn.refusal }]),
    ...calls.flatMap(callDeltas),
  ];
  const chunk = (rest: object) => ({ ...completion, object: "chat.completion.chunk", ...rest });
  await sendFrames(outgoing, [
    ...deltas.map((delta) => chunk({ choices: [{ index: 0, delta, finish_reason: null }] })),
    chunk({ choices: [{ index: 0, delta: {}, finish_reason }] }),
    chunk({ choices: [], usage: total }),
    "data: [DONE]\n\n",
  ]);
}

/** The name first, then the arguments in two pieces, as real upstreams do. */
function callDeltas(call: { id: string; name: string; arguments: string }, index: number): object[] {
  const half = Math.ceil(call.arguments.length / 2);
  const start = { index, id: call.id, type: "function", function: { name: call.name, arguments: "" } };
  const pieces = [call.arguments.slice(0, half), call.arguments.slice(half)].filter(Boolean);
  const rest = pieces.map((text) => ({ index, function: { arguments: text } }));
  return [start, ...rest].map((delta) => ({ tool_calls: [delta] }));
}

async function sendFrames(
  outgoing: ServerResponse,
  frames: Iterable<unknown> | AsyncIterable<unknown>,
): Promise<void> {
  outgoing.writeHead(200, { "content-type": "text/event-stream" });
  outgoing.flushHeaders();
  for await (const frame of frames) {
    if (outgoing.destroyed) return;
    const text = typeof frame === "string" ? frame : `data: ${JSON.stringify(frame)}\n\n`;
    if (!outgoing.write(text)) await drained(outgoing);
  }
  outgoing.end();
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

async function textOf(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

function counter(): () => number {
  let last = 0;
  return () => ++last;
}
