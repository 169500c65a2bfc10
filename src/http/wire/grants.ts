import * as z from "zod";
import type { Told } from "../../core/disconnect.ts";
import type { Grant } from "../../core/grants.ts";
import { listOf, writeMoment } from "./common.ts";

/** A user's authorization at a connection, without its tokens. */
export const grantBody = z.object({
  id: z.string(),
  user: z.string(),
  status: z.enum(["active", "needs_consent", "revoked"]),
  /** Why it is not active. */
  reason: z.string().nullable(),
  scopes: z.array(z.string()),
  createdAt: z.string(),
  lastUsedAt: z.string().nullable(),
  /** False: when its access token ends, the user is asked again. */
  renewsItself: z.boolean(),
});

export const grantList = listOf(grantBody);

export function writeGrant(grant: Grant): z.infer<typeof grantBody> {
  const { id, user, status, reason, scopes, createdAt, lastUsedAt, hasRefreshToken } = grant;
  return {
    id,
    user,
    status,
    reason,
    scopes,
    createdAt: writeMoment(createdAt),
    lastUsedAt: lastUsedAt === null ? null : writeMoment(lastUsedAt),
    renewsItself: hasRefreshToken,
  };
}

/** `upstream`: what the authorization server made of it. */
export const revokedGrantBody = z.object({
  id: z.string(),
  user: z.string(),
  status: z.literal("revoked"),
  upstream: z.enum(["revoked", "impossible", "refused", "failed"]),
});

export function writeRevokedGrant({ id, user }: Grant, upstream: Told): z.infer<typeof revokedGrantBody> {
  return { id, user, status: "revoked", upstream };
}
