import * as z from "zod";

/** `GET …/responses/{id}`. */
export const retrieveQuery = z.object({
  stream: z
    .enum(["true", "false"])
    .nullish()
    .transform((value) => value === "true"),
});

/** `GET …/responses/{id}/input_items`: newest first unless asked otherwise. */
export const inputItemsQuery = z.object({
  after: z.string().max(256).optional(),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  order: z.enum(["asc", "desc"]).default("desc"),
});
