import * as z from "zod";
import type { Validation } from "../../core/administration/validation.ts";
import type { ToolPin } from "../../core/storage.ts";
import { name, strictQuery, writeMoment } from "./common.ts";
import { principalBody } from "./whoami.ts";

export const pinBody = z.object({
  name: z.string(),
  /** What the definition was when it was first listed, or last accepted. */
  pinnedHash: z.string(),
  /** What it was last. */
  seenHash: z.string(),
  seenAt: z.string(),
  changed: z.boolean(),
});

export function writePin({ tool, pinned, seen, seenAt }: ToolPin): z.infer<typeof pinBody> {
  return {
    name: tool,
    pinnedHash: pinned,
    seenHash: seen,
    seenAt: writeMoment(seenAt),
    changed: pinned !== seen,
  };
}

/** `hash`: accept exactly this definition, and nothing that came after it was read. */
export const acceptance = z.object({ hash: z.string().nullable().default(null) }).default({ hash: null });

export const validationQuery = strictQuery({
  /** As this agent of the project's, whose identity may be its own. */
  agent: name.optional(),
});

const authorizationBody = z.object({
  issuer: z.string(),
  described: z.boolean(),
  authorizationUrl: z.string(),
  tokenUrl: z.string(),
  revocationUrl: z.string().nullable(),
  resource: z.string().nullable(),
  client: z.enum(["custom", "connector", "preregistered", "metadata_document", "dynamic"]),
  clientId: z.string(),
  scopes: z.array(z.string()).nullable(),
  overrides: z.array(z.string()),
  overrideReason: z.string().nullable(),
  grant: z.enum(["active", "needs_consent", "revoked", "none"]).nullable(),
  /** Why it is not active. Null: it is, or there is none. */
  grantReason: z.string().nullable(),
});

export const validationBody = z.object({
  ok: z.boolean(),
  cause: z.string(),
  message: z.string(),
  hints: z.array(z.string()),
  notes: z.array(z.string()),
  toolCount: z.number().nullable(),
  durationMs: z.number(),
  /** Of an OAuth connection. Null: it is none, or nothing could be found out. */
  authorization: authorizationBody.nullable(),
  /** Whom the server sees, of a connection with an identity: what it can give roles to. */
  principal: principalBody.nullable(),
  tools: z.array(
    z.object({
      name: z.string(),
      description: z.string().nullable(),
      readOnly: z.boolean(),
      allowed: z.boolean(),
      needsApproval: z.boolean().nullable(),
      changed: z.boolean(),
      hash: z.string(),
    }),
  ),
});

export function writeValidation(validation: Validation): z.infer<typeof validationBody> {
  const { ok, cause, message, hints, notes, toolCount, durationMs, authorization, principal, tools } =
    validation;
  return { ok, cause, message, hints, notes, toolCount, durationMs, authorization, principal, tools };
}
