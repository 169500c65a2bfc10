import { blockUser, getUser, listUsers, restoreUser } from "../../core/administration/users.ts";
import { projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { answerList, pageOf } from "../paging.ts";
import { listOf, pageQuery } from "../wire/common.ts";
import { userBody, writeUser } from "../wire/users.ts";

const tag = "users";
const roles = ["admin"] as const;
const path = "/api/projects/{project}/users";

/** The people whom calls are made for. In a path a bare name means `app:`. */
export function userRoutes({ world, broker, publicUrl }: Deps): Route[] {
  return [
    projectRoute({
      method: "GET",
      path,
      tag,
      roles,
      summary: "List users that were seen or blocked, in order of id",
      query: pageQuery,
      answers: { 200: { description: "A page of users", body: listOf(userBody) } },
      handle: async (call, { query }) => {
        const listed = await listUsers(world, call.context, pageOf(query));
        return answerList(call, { listed, write: writeUser, idOf: ({ id }) => id, publicUrl });
      },
    }),
    projectRoute({
      method: "GET",
      path: `${path}/{user}`,
      tag,
      roles,
      summary: "One user",
      answers: { 200: { description: "The user", body: userBody } },
      handle: async ({ context, params }) =>
        Response.json(writeUser(await getUser(world, context, params["user"] ?? ""))),
    }),
    projectRoute({
      method: "DELETE",
      path: `${path}/{user}`,
      tag,
      roles,
      summary:
        "Kill switch: block the user, cancel the user's waiting calls and take the user's grants back, effective with the next request",
      answers: { 200: { description: "The user, blocked", body: userBody } },
      handle: async ({ context, params }) => {
        const desks = { world, disconnect: broker.disconnect };
        return Response.json(writeUser(await blockUser(desks, context, params["user"] ?? "")));
      },
    }),
    projectRoute({
      method: "POST",
      path: `${path}/{user}:restore`,
      tag,
      roles,
      summary: "Let a blocked user in again",
      answers: { 200: { description: "The user, active", body: userBody } },
      handle: async ({ context, params }) =>
        Response.json(writeUser(await restoreUser(world, context, params["user"] ?? ""))),
    }),
  ];
}
