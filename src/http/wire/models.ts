import * as z from "zod";
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
    apiKey: z.string().nullable().optional(),
  }),
  1_000,
);

/** As they are read back: without what is secret. */
export const modelBodies = z.array(only(upstream));
