import {
  deleteConnector,
  getConnector,
  listConnectors,
  writeConnector as saveConnector,
} from "../../core/administration/connectors.ts";
import type { Connector } from "../../core/connection.ts";
import type { ConnectorDraft } from "../../core/connector-rules.ts";
import { invalid } from "../../core/errors.ts";
import { redirectUrlOf } from "../../core/redirects.ts";
import { answerList, pageOf } from "../paging.ts";
import { type CallerCall, operatorRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { pageQuery } from "../wire/common.ts";
import {
  connectorBody,
  connectorDeletion,
  connectorDraft,
  connectorList,
  writeConnector,
} from "../wire/connectors.ts";

const tag = "connectors";
const roles = ["admin"] as const;
const path = "/api/connectors";

/** OAuth apps that the operator manages once, for connections of all projects. */
export function connectorRoutes({ world, publicUrl, checkTarget }: Deps): Route[] {
  const one = { 200: { description: "The connector, without its secrets", body: connectorBody } };
  const write = (connector: Connector) =>
    writeConnector(connector, redirectUrlOf({ publicUrl }, connector.redirectId));

  async function save(
    call: CallerCall,
    body: { name: string | null; draft: ConnectorDraft },
    mode: "replace" | "change",
  ) {
    const name = call.params["name"] ?? "";
    if (body.name !== null && body.name !== name) {
      throw invalid({ param: "name", message: "must be the name in the path, or be left out" });
    }
    const { draft } = body;
    return Response.json(
      write(await saveConnector(world, operatorOf(call), { name, draft, mode, checkTarget })),
    );
  }

  return [
    operatorRoute({
      method: "GET",
      path,
      tag,
      roles,
      summary: "List connectors, in order of name",
      query: pageQuery,
      answers: { 200: { description: "A page of connectors", body: connectorList } },
      handle: async (call, { query }) => {
        const listed = await listConnectors(world, pageOf(query));
        return answerList(call, { listed, write, idOf: ({ name }) => name, publicUrl });
      },
    }),
    operatorRoute({
      method: "GET",
      path: `${path}/{name}`,
      tag,
      roles,
      summary: "One connector",
      answers: one,
      handle: async ({ params }) => Response.json(write(await getConnector(world, params["name"] ?? ""))),
    }),
    operatorRoute({
      method: "PUT",
      path: `${path}/{name}`,
      tag,
      roles,
      summary: "Make a connector, or replace all of it, secrets included",
      body: connectorDraft,
      answers: one,
      handle: (call, { body }) => save(call, body, "replace"),
    }),
    operatorRoute({
      method: "PATCH",
      path: `${path}/{name}`,
      tag,
      roles,
      summary: "Change what is given; the secret stays unless it is given",
      body: connectorDraft,
      answers: one,
      handle: (call, { body }) => save(call, body, "change"),
    }),
    operatorRoute({
      method: "DELETE",
      path: `${path}/{name}`,
      tag,
      roles,
      summary: "Delete a connector; refused while connections use it, unless force=true",
      query: connectorDeletion,
      answers: { 204: { description: "It is gone" }, 400: { description: "Connections use it" } },
      handle: async (call, { query }) => {
        const name = call.params["name"] ?? "";
        await deleteConnector(world, operatorOf(call), { name, force: query.force ?? false });
        return new Response(null, { status: 204 });
      },
    }),
  ];
}

function operatorOf({ caller, requestId, request }: CallerCall) {
  return { caller, user: null, requestId, signal: request.signal };
}
