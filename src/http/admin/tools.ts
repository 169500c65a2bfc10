import { acceptTool, listPins } from "../../core/administration/tool-pins.ts";
import { asAgent } from "../../core/administration/acting.ts";
import { validateConnection } from "../../core/administration/validation.ts";
import { projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { listOf } from "../wire/common.ts";
import {
  acceptance,
  pinBody,
  validationBody,
  validationQuery,
  writePin,
  writeValidation,
} from "../wire/tool-pins.ts";

const tag = "connections";
const path = "/api/projects/{project}/connections/{name}";

/** Does a connection work, what tools does it have, and did their definitions change? */
export function toolRoutes({ world, broker }: Deps): Route[] {
  return [
    projectRoute({
      method: "POST",
      path: `${path}:validate`,
      tag,
      roles: ["admin"],
      summary: "Connect, list the tools, and name the likely cause if that fails",
      answers: { 200: { description: "The diagnosis, good or bad", body: validationBody } },
      query: validationQuery,
      handle: async ({ context, params }, { query }) => {
        const acting = await asAgent(world, context, query.agent ?? null);
        const validation = await validateConnection(broker.desks, acting, params["name"] ?? "");
        return Response.json(writeValidation(validation));
      },
    }),
    projectRoute({
      method: "GET",
      path: `${path}/tools`,
      tag,
      roles: ["admin", "runtime"],
      summary: "The tools that were listed so far, and whether their definitions changed",
      answers: { 200: { description: "All tools that were seen", body: listOf(pinBody) } },
      handle: async ({ context, params }) => {
        const pins = await listPins(world, context, params["name"] ?? "");
        return Response.json({ value: pins.map(writePin) });
      },
    }),
    projectRoute({
      method: "POST",
      path: `${path}/tools/{tool}:accept`,
      tag,
      roles: ["admin"],
      summary: "Accept a tool's changed definition",
      body: acceptance,
      answers: {
        200: { description: "The tool as accepted", body: pinBody },
        409: { description: "The definition is no longer the one of `hash`" },
      },
      handle: async ({ context, params }, { body }) => {
        const { name: connection = "", tool = "" } = params;
        return Response.json(
          writePin(await acceptTool(world, context, { connection, tool, hash: body.hash })),
        );
      },
    }),
  ];
}
