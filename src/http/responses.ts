import type { Broker } from "../core/broker.ts";
import type { Context } from "../core/context.ts";
import { type BrokerError, invalid } from "../core/errors.ts";
import { hasActed, type OnceKey } from "../core/once.ts";
import type { Json } from "../core/json.ts";
import type { TurnEvent, TurnRequest } from "../core/request.ts";
import { type ProjectCall, projectRoute, type Route } from "./route.ts";
import { streamTurn } from "./sse.ts";
import { writeItemList } from "./wire/conversations.ts";
import { includeOf } from "./wire/include.ts";
import { readResponsesBody, responsesBodySchema } from "./wire/request.ts";
import { responseBody, writeResponse } from "./wire/response.ts";
import { inputItemsQuery, retrieveQuery } from "./wire/response-queries.ts";

/** Where the Responses API is served: Foundry's base, OpenAI's, and Foundry's per-agent base, which fixes the agent. */
export const BASES = [
  "/api/projects/{project}/openai/v1",
  "/v1",
  "/api/projects/{project}/agents/{agent}/endpoint/protocols/openai",
];

/** `POST …/responses` and its neighbours (responses-wire 2). */
export function responseRoutes({ broker }: { broker: Broker }): Route[] {
  return BASES.flatMap((base) => routesAt(base, broker));
}

function routesAt(base: string, broker: Broker): Route[] {
  const tag = "responses";
  const roles = ["runtime"] as const;
  return [
    projectRoute({
      method: "POST",
      path: `${base}/responses`,
      tag,
      roles,
      summary: "Create a response: list and call MCP tools, with a model or by explicit calls",
      body: responsesBodySchema,
      answers: {
        200: { description: "The response; server-sent events with `stream: true`", body: responseBody },
        400: { description: "A field is wrong; nothing ran" },
      },
      handle: (call, { body }) => create(broker, call, body),
    }),
    projectRoute({
      method: "GET",
      path: `${base}/responses/{id}`,
      tag,
      roles,
      summary: "A stored response, or one in the background; its events with `stream=true`",
      query: retrieveQuery,
      answers: {
        200: { description: "The response; server-sent events with `stream=true`", body: responseBody },
        404: { description: "Unknown, or somebody else's" },
      },
      handle: async ({ context, params, request }, { query }) => {
        const include = includeOf(request);
        const { stream, starting_after: startingAfter } = query;
        const id = params["id"] ?? "";
        if (stream) return follow(broker, context, { idOf: async () => id, include, startingAfter });
        if (startingAfter !== undefined)
          throw invalid({ param: "starting_after", message: "is for stream=true only" });
        const { response, output } = await broker.retrieve(context, id);
        return Response.json(writeResponse(response, output, include));
      },
    }),
    projectRoute({
      method: "DELETE",
      path: `${base}/responses/{id}`,
      tag,
      roles,
      summary: "Delete a response and cancel its pending calls",
      answers: { 200: { description: "It is gone" }, 404: { description: "Unknown, or somebody else's" } },
      handle: async ({ context, params }) => {
        const id = params["id"] ?? "";
        await broker.deleteResponse(context, id);
        return Response.json({ id, object: "response", deleted: true });
      },
    }),
    projectRoute({
      method: "POST",
      path: `${base}/responses/{id}/cancel`,
      tag,
      roles,
      summary: "Cancel a background response",
      answers: {
        200: { description: "The response as it is then; again and again the same", body: responseBody },
        400: { description: "It does not run in the background" },
        404: { description: "Unknown, or somebody else's" },
      },
      handle: async ({ context, params }) => {
        const { response, output } = await broker.cancel(context, params["id"] ?? "");
        return Response.json(writeResponse(response, output));
      },
    }),
    projectRoute({
      method: "GET",
      path: `${base}/responses/{id}/input_items`,
      tag,
      roles,
      summary: "What a response was given, its chain included",
      query: inputItemsQuery,
      answers: {
        200: { description: "A page of items" },
        404: { description: "Unknown, or somebody else's" },
      },
      handle: async ({ context, params, request }, { query }) => {
        const include = includeOf(request);
        const { after, limit, order } = query;
        const page = { after: after ?? null, limit, order };
        const { items, more } = await broker.inputItems(context, params["id"] ?? "", page);
        return Response.json(writeItemList(items, { more, include }));
      },
    }),
  ];
}

async function create(broker: Broker, call: ProjectCall, value: unknown): Promise<Response> {
  const { request, stream, background } = readResponsesBody(value);
  const { safetyIdentifier, user } = request;
  const context = await call.forUser(safetyIdentifier ?? user);
  const agent = call.params["agent"];
  const fixed = agent === undefined ? request : { ...request, agent: { name: agent, version: null } };
  if (background) return begin(broker, { context, request: fixed, stream }, keyOf(call, value));
  // Whoever reads one body leaves with the request; two signals in one are dear.
  const left = stream ? new AbortController() : null;
  const signal = left ? AbortSignal.any([context.signal, left.signal]) : context.signal;
  const key = keyOf(call, value);
  const asked = { ...context, signal, watched: stream };
  const { include } = request;
  const turn = key ? await broker.respondOnce(asked, fixed, key) : await broker.respond(asked, fixed);
  return left ? streamTurn(turn, { onLeave: () => left.abort(), include }) : drainTurn(turn, include);
}

/** `background: true`: it goes on without its caller, who sees that it waits, or follows it. */
async function begin(
  broker: Broker,
  { context, request, stream }: { context: Context; request: TurnRequest; stream: boolean },
  key: OnceKey | null,
): Promise<Response> {
  const { include } = request;
  const made = () => broker.respondInBackground(context, request, key);
  if (stream) return follow(broker, context, { idOf: async () => (await made()).response.id, include });
  const { response, output } = await made();
  return Response.json(writeResponse(response, output, include));
}

/**
 * The events of a response: those that there were, and those that come. Whoever leaves does not end it. There is a place for the
 * follower before `idOf` begins anything.
 */
async function follow(
  broker: Broker,
  context: Context,
  { idOf, include, startingAfter }: Following,
): Promise<Response> {
  const left = new AbortController();
  const signal = AbortSignal.any([context.signal, left.signal]);
  const follower = broker.background.follower(context, signal);
  const turn = await idOf()
    .then(follower)
    .catch((cause: unknown) => {
      left.abort();
      throw cause;
    });
  const from = startingAfter === undefined ? {} : { startingAfter };
  return streamTurn(turn, { onLeave: () => left.abort(), include, ...from });
}

type Following = {
  idOf: () => Promise<string>;
  include: string[];
  startingAfter?: number | undefined;
};

/** `stream: false`: the same turn in one body. A model that failed before anything was done is an HTTP error. */
async function drainTurn(turn: AsyncGenerator<TurnEvent>, include: readonly string[]): Promise<Response> {
  let refusal: BrokerError | null = null;
  for await (const event of turn) {
    if (event.kind === "failed") refusal = event.refusal;
    if (event.kind !== "ended") continue;
    if (refusal && !event.output.some(hasActed)) throw refusal;
    return Response.json(writeResponse(event.response, event.output, include));
  }
  throw new Error("a turn ended without its end");
}

/** The key of a request, and what it says. Null: it has none. */
function keyOf({ request, params }: ProjectCall, value: unknown): OnceKey | null {
  const key = idempotencyKeyOf(request.headers);
  return key === null ? null : { key, body: [params["agent"] ?? null, jsonOf(value)] };
}

/** Throws `invalid` for a key that is empty, too long or not plain ASCII. */
function idempotencyKeyOf(headers: Headers): string | null {
  const key = headers.get("idempotency-key");
  if (key === null || /^[\x20-\x7e]{1,255}$/.test(key)) return key;
  throw invalid({
    param: "Idempotency-Key",
    message: "must be 1 to 255 printable ASCII characters",
  });
}

/** What `readJson` parsed is JSON. */
const jsonOf = (value: unknown) => value as Json;
