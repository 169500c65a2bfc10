import { auditEntry, type Context } from "./context.ts";
import { type Grant, grantAad, type GrantKey, type NewTokens } from "./grants.ts";
import { isJsonObject, type Json } from "./json.ts";
import type { OAuth, RawTokens } from "./oauth.ts";
import type { World } from "./ports.ts";
import type { Binding } from "./refresh.ts";
import { untilKept } from "./until-kept.ts";

/** What a grant's tokens are read and kept with. */
export type Outside = Pick<World, "clock" | "newId" | "sealer" | "store" | "log" | "observer"> & {
  oauth: OAuth;
};

/** The longest a token request takes. */
export const REQUEST_MS = 15_000;

/** The tokens in a grant's box. Throws `unavailable` when it does not open. */
export async function openTokens(
  { sealer }: Pick<Outside, "sealer">,
  grant: Grant,
): Promise<{ accessToken: string; refreshToken: string | null }> {
  const body: Json = JSON.parse(await sealer.open(grant.sealed, grantAad(grant)));
  if (!isJsonObject(body) || typeof body["accessToken"] !== "string")
    throw new Error("a grant's box holds no tokens");
  const { accessToken, refreshToken } = body;
  return { accessToken, refreshToken: typeof refreshToken === "string" ? refreshToken : null };
}

/** Rules 3 and 4: committed before anything is checked, by compare-and-swap; the commit is what is repeated, never the exchange. */
export async function keepTokens(
  outside: Outside,
  context: Context,
  { grant, raw, binding }: { grant: Grant; raw: RawTokens; binding: Binding },
): Promise<void> {
  const next = { ...grant, version: grant.version + 1 };
  const body = JSON.stringify({ accessToken: raw.accessToken, refreshToken: raw.refreshToken });
  const tokens: NewTokens = {
    sealed: await outside.sealer.seal(body, grantAad(next)),
    expiresAt: raw.expiresAt,
    hasRefreshToken: raw.refreshToken !== null,
    scopes: raw.scopes ?? grant.scopes,
    at: outside.clock.now(),
  };
  const entry = auditEntry(outside, context, "grant_refreshed", {
    connection: binding.connection,
    detail: { grant: grant.id, version: next.version },
  });
  await untilKept(outside.clock, async (tries) => {
    const kept = await outside.store.grants.refreshed(keyOfGrant(grant), grant.version, tokens, [entry]);
    // The first try may have been the one that counted, with its answer lost.
    if (!kept && tries === 1) await giveBack(outside, grant, raw, binding);
  });
}

/**
 * Tokens that came too late to be kept. Where the grant was taken back meanwhile they must not live on upstream; where
 * somebody else wrote, theirs stay and nothing is revoked, for it may be the same family.
 */
async function giveBack(
  outside: Outside,
  grant: Grant,
  raw: RawTokens,
  { server, client }: Binding,
): Promise<void> {
  const now = await outside.store.grants.get(keyOfGrant(grant));
  const isTakenBack = !now || now.status === "revoked";
  if (!isTakenBack)
    return outside.log("error", "grant_write_lost", { grant: grant.id, version: grant.version });
  if (server.revocationEndpoint === null) return;
  const token = raw.refreshToken ?? raw.accessToken;
  const hint = raw.refreshToken === null ? "access_token" : "refresh_token";
  const told = await outside.oauth.revoke({ server, client, token, hint }, AbortSignal.timeout(REQUEST_MS));
  if (!told.ok) outside.log("warn", "tokens_not_given_back", { grant: grant.id });
}

/** A grant that does not serve any more: marked, by compare-and-swap; nothing is deleted (rule 5). */
export async function failGrant(
  outside: Outside,
  context: Context,
  { grant, reason, connection }: { grant: Grant; reason: string } & Pick<Binding, "connection">,
): Promise<void> {
  const entry = auditEntry(outside, context, "grant_failed", {
    outcome: "failed",
    connection,
    detail: { grant: grant.id, reason },
  });
  await outside.store.grants.fail(keyOfGrant(grant), grant.version, reason, [entry]);
}

export function keyOfGrant({ project, connectionId, user }: Grant): GrantKey {
  return { project, connectionId, user };
}
