import * as z from "zod";
import type { Compaction } from "../../core/compaction.ts";
import type { JsonObject } from "../../core/json.ts";
import { seconds, writeUsage } from "./response.ts";
import { jsonObject } from "./shape.ts";
import { writeItem } from "./write-items.ts";

const count = z.number().meta({ type: "integer" });

/** What `…/responses/input_tokens` answers. */
export const inputTokensBody = z.object({
  object: z.literal("response.input_tokens"),
  input_tokens: count,
});

/** What `writeCompaction` makes, for OpenAPI. */
export const compactionBody = z.object({
  id: z.string(),
  object: z.literal("response.compaction"),
  created_at: count,
  output: z.array(z.looseObject({ type: z.string(), id: z.string() })),
  usage: jsonObject,
});

export function writeCompaction({ id, createdAt, output, usage }: Compaction): JsonObject {
  return {
    id,
    object: "response.compaction",
    created_at: seconds(createdAt),
    output: output.map(writeItem),
    usage: writeUsage(usage),
  };
}
