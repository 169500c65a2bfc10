import type { ConversationDesk } from "../core/conversation-desk.ts";
import { BASES } from "./responses.ts";
import { projectRoute, type Route } from "./route.ts";
import {
  conversationBody,
  conversationUpdate,
  newConversation,
  newItems,
  writeConversation,
  writeItemList,
} from "./wire/conversations.ts";
import { includeOf } from "./wire/include.ts";
import { inputItemsQuery } from "./wire/response-queries.ts";
import { writeItemWith } from "./wire/write-items.ts";

/** `…/conversations` and their items (responses-wire 2), beside the responses that stand in them. */
export function conversationRoutes({ broker }: { broker: { conversations: ConversationDesk } }): Route[] {
  return BASES.flatMap((base) => [
    ...routesAt(`${base}/conversations`, broker.conversations),
    ...itemRoutesAt(`${base}/conversations/{id}/items`, broker.conversations),
  ]);
}

const tag = "conversations";
const roles = ["runtime"] as const;
const gone = { 404: { description: "Unknown, or somebody else's" } };
const one = { 200: { description: "The conversation", body: conversationBody }, ...gone };

function routesAt(path: string, desk: ConversationDesk): Route[] {
  return [
    projectRoute({
      method: "POST",
      path,
      tag,
      roles,
      summary: "Create a conversation, with its first items",
      body: newConversation,
      answers: { 200: { description: "The conversation", body: conversationBody } },
      handle: async ({ context }, { body }) => {
        const made = await desk.create(context, { items: body.items ?? [], metadata: body.metadata ?? {} });
        return Response.json(writeConversation(made));
      },
    }),
    projectRoute({
      method: "GET",
      path: `${path}/{id}`,
      tag,
      roles,
      summary: "A conversation",
      answers: one,
      handle: async ({ context, params }) =>
        Response.json(writeConversation(await desk.retrieve(context, params["id"] ?? ""))),
    }),
    projectRoute({
      method: "POST",
      path: `${path}/{id}`,
      tag,
      roles,
      summary: "Replace a conversation's metadata",
      body: conversationUpdate,
      answers: one,
      handle: async ({ context, params }, { body }) =>
        Response.json(writeConversation(await desk.setMetadata(context, params["id"] ?? "", body.metadata))),
    }),
    projectRoute({
      method: "DELETE",
      path: `${path}/{id}`,
      tag,
      roles,
      summary: "Delete a conversation; its responses stay",
      answers: { 200: { description: "It is gone" }, ...gone },
      handle: async ({ context, params }) => {
        const id = params["id"] ?? "";
        await desk.delete(context, id);
        return Response.json({ id, object: "conversation.deleted", deleted: true });
      },
    }),
  ];
}

function itemRoutesAt(path: string, desk: ConversationDesk): Route[] {
  return [
    projectRoute({
      method: "POST",
      path,
      tag,
      roles,
      summary: "Add items to a conversation",
      body: newItems,
      answers: { 200: { description: "The items that were added" }, ...gone },
      handle: async ({ context, params, request }, { body }) => {
        const include = includeOf(request);
        const added = await desk.addItems(context, params["id"] ?? "", body.items);
        return Response.json(writeItemList(added, { more: false, include }));
      },
    }),
    projectRoute({
      method: "GET",
      path,
      tag,
      roles,
      summary: "What is said in a conversation",
      query: inputItemsQuery,
      answers: { 200: { description: "A page of items" }, ...gone },
      handle: async ({ context, params, request }, { query }) => {
        const include = includeOf(request);
        const { after, limit, order } = query;
        const page = { after: after ?? null, limit, order };
        const { items, more } = await desk.items(context, params["id"] ?? "", page);
        return Response.json(writeItemList(items, { more, include }));
      },
    }),
    projectRoute({
      method: "GET",
      path: `${path}/{item}`,
      tag,
      roles,
      summary: "An item of a conversation",
      answers: { 200: { description: "The item" }, ...gone },
      handle: async ({ context, params, request }) => {
        const include = includeOf(request);
        const item = await desk.item(context, params["id"] ?? "", params["item"] ?? "");
        return Response.json(writeItemWith(item, include));
      },
    }),
    projectRoute({
      method: "DELETE",
      path: `${path}/{item}`,
      tag,
      roles,
      summary: "Delete an item of a conversation",
      answers: one,
      handle: async ({ context, params }) =>
        Response.json(
          writeConversation(await desk.deleteItem(context, params["id"] ?? "", params["item"] ?? "")),
        ),
    }),
  ];
}
