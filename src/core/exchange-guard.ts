import type { Context } from "./context.ts";
import { issuerOf } from "./issuers.ts";
import { ownMember } from "./json.ts";
import type { UserToken } from "./machine-identity.ts";
import { unverifiedClaims } from "./token-peek.ts";
import { textOf } from "./user-of-claims.ts";

/**
 * Whether what an issuer gave for a person's token opens our own door: that very token, which goes to nobody else (A16), or another
 * for an audience with which callers come. Some issuers add audiences that nobody asked for. A token that cannot be read is not
 * one of theirs that we would take.
 */
export function callsUs(project: Context["project"], given: string, { token: own }: UserToken): boolean {
  if (given === own) return true;
  const claims = unverifiedClaims(given);
  const iss = claims && textOf(claims, "iss");
  const match = iss === null ? null : issuerOf(project.settings.issuers, iss);
  if (!claims || !match) return false;
  const aud = ownMember(claims, "aud");
  const named: unknown[] = Array.isArray(aud) ? aud : [aud];
  return match.entry.audiences.some((audience) => named.includes(audience));
}

export const CALLS_US =
  "the issuer gave a token that calls the broker as that person: let it give one for the server's audience alone";
