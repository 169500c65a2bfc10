import {
  deleteConnection,
  getConnection,
  listConnections,
  readCredentials,
  redirectIdOf,
} from "../../core/administration/connections.ts";
import { writeConnection as saveConnection } from "../../core/administration/connection-writes.ts";
import type { Connection } from "../../core/connection.ts";
import type { ConnectionDraft } from "../../core/connection-rules.ts";
import { redirectUrlOf } from "../../core/redirects.ts";
import { answerList, pageOf } from "../paging.ts";
import { type ProjectCall, projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import {
  armAccount,
  armConnectionBody,
  armConnectionList,
  connectionBody,
  connectionChange,
  connectionList,
  connectionQuery,
  connectionReplacement,
  isRemoteTool,
  type ShownConnection,
  writeArmConnection,
  writeConnection,
} from "../wire/connections.ts";
import type { Shape } from "../wire/shape.ts";

/** The same connections in two shapes: Foundry's data plane, and the management resource. */
type Face = {
  path: string;
  tag: string;
  shapes: { one: Shape<unknown>; list: Shape<unknown> };
  write: (shown: ShownConnection, call: ProjectCall) => object;
};

const dataPlane: Face = {
  path: "/api/projects/{project}/connections",
  tag: "connections",
  shapes: { one: connectionBody, list: connectionList },
  write: (shown) => writeConnection(shown),
};

const management: Face = {
  path: `${armAccount({ subscription: "{subscription}", group: "{group}", account: "{account}" })}/projects/{project}/connections`,
  tag: "connections (ARM)",
  shapes: { one: armConnectionBody, list: armConnectionList },
  write: (shown, { params }) => writeArmConnection(shown, accountIn(params)),
};

export function connectionRoutes(deps: Deps): Route[] {
  return [...routesOf(dataPlane, deps), credentialsRoute(deps), ...routesOf(management, deps)];
}

function routesOf({ path, tag, shapes, write }: Face, deps: Deps): Route[] {
  const { world, broker, publicUrl, checkTarget } = deps;
  const desks = { world, disconnect: broker.disconnect };
  const readers = ["admin", "runtime"] as const;
  const one = { 200: { description: "The connection, without its secrets", body: shapes.one } };

  async function save(call: ProjectCall, draft: ConnectionDraft, mode: "replace" | "change") {
    const name = call.params["name"] ?? "";
    const connection = await saveConnection(desks, call.context, {
      name,
      draft,
      mode,
      checkTarget,
      at: "properties",
    });
    return Response.json(write(await shown(deps, connection), call));
  }

  return [
    projectRoute({
      method: "GET",
      path,
      tag,
      roles: readers,
      summary: "List connections, in order of name",
      query: connectionQuery,
      answers: { 200: { description: "A page of connections", body: shapes.list } },
      handle: async (call, { query }) => {
        const { connectionType, defaultConnection, target } = query;
        if (connectionType !== undefined && !isRemoteTool(connectionType))
          return Response.json({ value: [] });
        const filter = { target, defaultsOnly: defaultConnection ?? false };
        const listed = await listConnections(world, call.context, filter, pageOf(query));
        const rows = await Promise.all(listed.rows.map((connection) => shown(deps, connection)));
        const idOf = ({ connection }: ShownConnection) => connection.name;
        return answerList(call, {
          listed: { ...listed, rows },
          write: (row) => write(row, call),
          idOf,
          publicUrl,
        });
      },
    }),
    projectRoute({
      method: "GET",
      path: `${path}/{name}`,
      tag,
      roles: readers,
      summary: "One connection",
      answers: one,
      handle: async (call) => {
        const connection = await getConnection(world, call.context, call.params["name"] ?? "");
        return Response.json(write(await shown(deps, connection), call));
      },
    }),
    projectRoute({
      method: "PUT",
      path: `${path}/{name}`,
      tag,
      roles: ["admin"],
      summary: "Make a connection, or replace all of it, credentials included",
      body: connectionReplacement,
      answers: one,
      handle: (call, { body }) => save(call, body, "replace"),
    }),
    projectRoute({
      method: "PATCH",
      path: `${path}/{name}`,
      tag,
      roles: ["admin"],
      summary: "Change what is given; credentials stay unless they are given",
      body: connectionChange,
      answers: one,
      handle: (call, { body }) => save(call, body, "change"),
    }),
    projectRoute({
      method: "DELETE",
      path: `${path}/{name}`,
      tag,
      roles: ["admin"],
      summary: "Delete a connection with its secrets, and take its users' grants back",
      answers: { 204: { description: "It is gone" } },
      handle: async (call) => {
        await deleteConnection(desks, call.context, call.params["name"] ?? "");
        return new Response(null, { status: 204 });
      },
    }),
  ];
}

function credentialsRoute(deps: Deps): Route {
  return projectRoute({
    method: "POST",
    path: `${dataPlane.path}/{name}/getConnectionWithCredentials`,
    tag: dataPlane.tag,
    roles: ["admin", "runtime"],
    summary:
      "One connection; its secrets too, for a caller with the right read_credentials, audited each time",
    answers: { 200: { description: "The connection", body: connectionBody } },
    handle: async ({ context, params }) => {
      const { connection, headers } = await readCredentials(deps.world, context, params["name"] ?? "");
      return Response.json(writeConnection(await shown(deps, connection), headers));
    },
  });
}

async function shown({ world, publicUrl }: Deps, connection: Connection): Promise<ShownConnection> {
  const redirectId = await redirectIdOf(world, connection);
  return { connection, redirectUrl: redirectId && redirectUrlOf({ publicUrl }, redirectId) };
}

function accountIn(params: ProjectCall["params"]): string {
  const { subscription = "", group = "", account = "" } = params;
  return armAccount({ subscription, group, account });
}
