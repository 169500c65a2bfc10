import type { Broker } from "../core/broker.ts";
import type { Context } from "../core/context.ts";
import { invalid } from "../core/errors.ts";
import type { TurnRequest } from "../core/request.ts";
import { BASES } from "./responses.ts";
import { type ProjectCall, projectRoute, type Route } from "./route.ts";
import { compactionBody, inputTokensBody, writeCompaction } from "./wire/compaction.ts";
import { readResponsesBody, responsesBodySchema } from "./wire/request.ts";

/** What a model would read: `…/responses/input_tokens` counts it, `…/responses/compact` makes it short. Nothing runs. */
export function contextRoutes({ broker }: { broker: Broker }): Route[] {
  return BASES.flatMap((base) => routesAt(`${base}/responses`, broker));
}

function routesAt(path: string, broker: Broker): Route[] {
  const tag = "responses";
  const roles = ["runtime"] as const;
  return [
    projectRoute({
      method: "POST",
      path: `${path}/input_tokens`,
      tag,
      roles,
      summary: "Estimate the tokens that a model would read for a request",
      body: responsesBodySchema,
      answers: { 200: { description: "The estimate", body: inputTokensBody } },
      handle: async (call, { body }) => {
        const { context, request } = await read(call, body);
        const tokens = await broker.countInput(context, request);
        return Response.json({ object: "response.input_tokens", input_tokens: tokens });
      },
    }),
    projectRoute({
      method: "POST",
      path: `${path}/compact`,
      tag,
      roles,
      summary: "Make what was said short: the user's messages and a sealed summary, to be used as input",
      body: responsesBodySchema,
      answers: {
        200: { description: "The items to go on with", body: compactionBody },
        400: { description: "A field is wrong, or no model is named" },
      },
      handle: async (call, { body }) => {
        const { context, request } = await read(call, body);
        if (request.model === null) throw invalid({ param: "model", message: "is required" });
        return Response.json(writeCompaction(await broker.compact(context, request, request.model)));
      },
    }),
  ];
}

/** No body at all is a request that says nothing. */
async function read(call: ProjectCall, value: unknown): Promise<{ context: Context; request: TurnRequest }> {
  const { request } = readResponsesBody(value ?? {});
  const context = await call.forUser(request.safetyIdentifier ?? request.user);
  const agent = call.params["agent"];
  if (agent === undefined) return { context, request };
  return { context, request: { ...request, agent: { name: agent, version: null } } };
}
