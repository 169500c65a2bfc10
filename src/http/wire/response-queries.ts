import * as z from "zod";

/** Repeated for several, which is read from the URL (`http/include`). */
const include = z.string().optional();

/** `GET …/responses/{id}`. */
export const retrieveQuery = z.object({
  "include[]": include,
  stream: z
    .enum(["true", "false"])
    .nullish()
    .transform((value) => value === "true"),
  starting_after: z.coerce.number().int().min(0).optional(),
  include_obfuscation: z.string().optional(),
});

/** `GET …/responses/{id}/input_items`: newest first unless asked otherwise. */
export const inputItemsQuery = z.object({
  "include[]": include,
  after: z.string().max(256).optional(),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  order: z.enum(["asc", "desc"]).default("desc"),
});
