import * as z from "zod";
import type { ModelUpstream } from "../../core/project.ts";
import { secretValue } from "./secrets.ts";
import { arrayOf, only } from "./shape.ts";

const upstream = {
  name: z.string(),
  baseUrl: z.string(),
  api: z.enum(["responses", "chat"]).default("chat"),
};

/** The model upstreams of a project. */
export const modelChanges = arrayOf(
  only({
    ...upstream,
    /** Write-only. Left out: as before; null: the upstream is called without one. */
    apiKey: secretValue.nullable().optional(),
  }),
  1_000,
);

/** As they are read back: without what is secret. A reference is none, and may be given back as it is. */
export const modelBodies = z.array(only({ ...upstream, apiKey: z.object({ ref: z.string() }).optional() }));

export function writeModels(models: readonly ModelUpstream[]): z.infer<typeof modelBodies> {
  return models.map(({ apiKeyRef, ...entry }) =>
    apiKeyRef === undefined ? entry : { ...entry, apiKey: { ref: apiKeyRef } },
  );
}
