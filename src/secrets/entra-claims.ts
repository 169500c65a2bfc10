import { decodeJwt } from "jose";
import type { Principal } from "../core/machine-identity.ts";
import type { EntraSettings } from "./entra-settings.ts";

/** Whom a server will see by this token. It was just given to us by who made it, and so it is read and not verified. */
export function principalOf(token: string, known: Principal): Principal {
  const claims = claimsOf(token);
  return {
    issuer: textOf(claims["iss"]) ?? known.issuer,
    subject: textOf(claims["oid"]) ?? textOf(claims["sub"]) ?? known.subject,
    clientId: textOf(claims["appid"]) ?? textOf(claims["azp"]) ?? known.clientId,
    tenant: textOf(claims["tid"]) ?? known.tenant,
  };
}

/** Whose tokens are our own identities': by their client ids, and by the object ids that tokens of theirs have shown. */
export type Ours = {
  isOurs: (claims: Readonly<Record<string, unknown>>) => boolean;
  /** A machine's principal, never a person's. */
  remember: (principal: Principal) => void;
};

export function createOurs({ identities, projects }: EntraSettings): Ours {
  const clients = new Set<string>();
  const add = (id: string | null) => id !== null && clients.add(id.toLowerCase());
  for (const { clientId } of Object.values(identities)) add(clientId);
  for (const { agents, onBehalfOf } of Object.values(projects)) {
    for (const id of [agents?.blueprintId, agents?.shared, ...Object.values(agents?.own ?? {})])
      add(id ?? null);
    add(onBehalfOf?.app?.clientId ?? null);
  }
  const objects = new Set<string>();
  const isAmong = (ids: ReadonlySet<string>, claim: unknown) =>
    typeof claim === "string" && ids.has(claim.toLowerCase());

  return {
    isOurs: (claims) => {
      // An agent identity's object id is its client id.
      const isSubject = [claims["oid"], claims["sub"]].some(
        (id) => isAmong(objects, id) || isAmong(clients, id),
      );
      if (isSubject) return true;
      // A person whose client is one of our applications is still that person.
      const isPerson = typeof claims["scp"] === "string" && claims["idtyp"] !== "app";
      return !isPerson && [claims["appid"], claims["azp"]].some((id) => isAmong(clients, id));
    },
    remember: ({ subject, clientId }) => {
      if (subject !== null && objects.size < MAX_OBJECTS) objects.add(subject.toLowerCase());
      if (clientId !== null && clients.size < MAX_OBJECTS) add(clientId);
    },
  };
}

function claimsOf(token: string): Record<string, unknown> {
  try {
    return decodeJwt(token);
  } catch {
    // Some resources have tokens that only they can read.
    return {};
  }
}

const textOf = (claim: unknown) => (typeof claim === "string" && claim !== "" ? claim : null);

/** The configuration bounds them as well. */
const MAX_OBJECTS = 10_000;
