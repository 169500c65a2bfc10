import { createKey, deleteKey, listKeys, rotateKey } from "../../core/administration/keys.ts";
import { projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { listOf } from "../wire/common.ts";
import { keyBody, keyDraft, newKeyBody, rotation, writeKey, writeNewKey } from "../wire/keys.ts";

const tag = "keys";
const roles = ["admin"] as const;
const path = "/api/projects/{project}/keys";

/** API keys of a project. A key is shown once, when it is made. */
export function keyRoutes({ world }: Deps): Route[] {
  return [
    projectRoute({
      method: "POST",
      path,
      tag,
      roles,
      summary: "Make a key; the answer holds it this once",
      body: keyDraft,
      answers: {
        201: { description: "The key", body: newKeyBody },
        409: { description: "A live key has the name" },
      },
      handle: async ({ context }, { body }) =>
        Response.json(writeNewKey(await createKey(world, context, body)), { status: 201 }),
    }),
    projectRoute({
      method: "GET",
      path,
      tag,
      roles,
      summary: "List the project's keys",
      answers: { 200: { description: "All keys, without the keys themselves", body: listOf(keyBody) } },
      handle: async ({ context }) => Response.json({ value: (await listKeys(world, context)).map(writeKey) }),
    }),
    projectRoute({
      method: "DELETE",
      path: `${path}/{key}`,
      tag,
      roles,
      summary: "Delete a key, by id or name; its next request is refused",
      answers: { 204: { description: "It is gone" } },
      handle: async ({ context, params }) => {
        await deleteKey(world, context, params["key"] ?? "");
        return new Response(null, { status: 204 });
      },
    }),
    projectRoute({
      method: "POST",
      path: `${path}/{key}:rotate`,
      tag,
      roles,
      summary: "Make a successor with the same name, principal, roles and rights; the key by id or name",
      body: rotation,
      answers: {
        201: { description: "The successor; the old key works for graceMs more", body: newKeyBody },
      },
      handle: async ({ context, params }, { body }) => {
        const made = await rotateKey(world, context, { key: params["key"] ?? "", graceMs: body.graceMs });
        return Response.json(writeNewKey(made), { status: 201 });
      },
    }),
  ];
}
