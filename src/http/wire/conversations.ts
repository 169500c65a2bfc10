import * as z from "zod";
import type { Conversation } from "../../core/conversations.ts";
import { invalid } from "../../core/errors.ts";
import type { Item } from "../../core/items.ts";
import type { JsonObject } from "../../core/json.ts";
import { metadata } from "./common.ts";
import { inputSchema, readInput } from "./items.ts";
import { bodyOf, readWith } from "./shape.ts";
import { seconds } from "./response.ts";
import { writeItemWith } from "./write-items.ts";

/** `items` as `input` has them, but never a bare text: a list, whose faults are named by their place in it. */
const items = readWith((value) => {
  if (value !== null && value !== undefined && !Array.isArray(value))
    throw invalid({ param: "", message: "must be an array of items" });
  return readInput(value, "");
}, inputSchema);

/** `POST …/conversations`; some clients send no body at all. */
export const newConversation = bodyOf(z.object({ items: items.optional(), metadata: metadata.nullish() }));

/** `POST …/conversations/{id}`: the metadata become these. */
export const conversationUpdate = bodyOf(
  z.object({ metadata: metadata.nullable().transform((value) => value ?? {}) }),
);

/** `POST …/conversations/{id}/items`. */
export const newItems = bodyOf(
  z.object({ items }).superRefine((body, context) => {
    if (body.items.length > 0) return;
    context.addIssue({ code: "custom", path: ["items"], message: "is required: an array of items" });
  }),
);

export const conversationBody = z.object({
  id: z.string(),
  object: z.literal("conversation"),
  created_at: z.number().meta({ type: "integer" }),
  metadata: z.record(z.string(), z.string()),
});

export function writeConversation({ id, createdAt, metadata: own }: Conversation): JsonObject {
  return { id, object: "conversation", created_at: seconds(createdAt), metadata: own };
}

/** A page of items; `openai` goes on with `after=<last_id>`. */
export function writeItemList(
  list: Item[],
  { more, include }: { more: boolean; include: readonly string[] },
): JsonObject {
  return {
    object: "list",
    data: list.map((item) => writeItemWith(item, include)),
    first_id: list.at(0)?.id ?? null,
    last_id: list.at(-1)?.id ?? null,
    has_more: more,
  };
}
