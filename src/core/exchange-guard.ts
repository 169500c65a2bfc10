import type { UserTokenAuth } from "./connection.ts";
import type { Context } from "./context.ts";
import { audienceFaultIn } from "./identity-source.ts";
import { issuerOf } from "./issuers.ts";
import { ownMember } from "./json.ts";
import type { UserToken } from "./machine-identity.ts";
import type { World } from "./ports.ts";
import { unverifiedClaims } from "./token-peek.ts";
import { textOf } from "./user-of-claims.ts";

/**
 * Why nobody's token is exchanged for this connection's audience or resource, as a sentence; null when it is. With a token for the
 * broker its server would be the person here. Settings may have changed since the connection was saved.
 */
export function exchangeFault(
  world: Pick<World, "publicUrl">,
  project: Context["project"],
  { audience, resource }: UserTokenAuth,
): string | null {
  const named = typeof resource === "object" ? { resource: resource.value } : {};
  for (const [param, text] of Object.entries({ audience, ...named })) {
    const fault = audienceFaultIn(world, project, text);
    if (fault !== null) return `its ${param} ${fault}`;
  }
  return null;
}

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
