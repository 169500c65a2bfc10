import { listGrants, revokeGrant } from "../../core/administration/grants.ts";
import { answerList, pageOf } from "../paging.ts";
import { projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { pageQuery } from "../wire/common.ts";
import { grantList, revokedGrantBody, writeGrant, writeRevokedGrant } from "../wire/grants.ts";

const tag = "grants";
const roles = ["admin"] as const;
const path = "/api/projects/{project}/connections/{name}/grants";

/** Whose accounts a connection has, and taking them back. */
export function grantRoutes({ world, broker, publicUrl }: Deps): Route[] {
  return [
    projectRoute({
      method: "GET",
      path,
      tag,
      roles,
      summary: "List the users' grants, without their tokens",
      query: pageQuery,
      answers: { 200: { description: "A page of grants", body: grantList } },
      handle: async (call, { query }) => {
        const listed = await listGrants(world, call.context, call.params["name"] ?? "", pageOf(query));
        return answerList(call, { listed, write: writeGrant, idOf: ({ id }) => id, publicUrl });
      },
    }),
    projectRoute({
      method: "DELETE",
      path: `${path}/{grant}`,
      tag,
      roles,
      summary: "Take a grant back, by its id or its user; its authorization server is told",
      answers: {
        200: { description: "It is revoked here; what the server made of it", body: revokedGrantBody },
      },
      handle: async ({ context, params }) => {
        const { name: connection = "", grant: asked = "" } = params;
        const desks = { world, disconnect: broker.disconnect };
        const { grant, upstream } = await revokeGrant(desks, context, { connection, grant: asked });
        return Response.json(writeRevokedGrant(grant, upstream));
      },
    }),
  ];
}
