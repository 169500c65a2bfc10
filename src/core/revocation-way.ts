import type { AuthorizationDesk, Way } from "./authorization.ts";
import { type HeldSecrets, NO_SECRETS, readClientSecrets, usedSecrets } from "./client-secrets.ts";
import type { ConnectionRecord } from "./connection.ts";
import type { Registration } from "./consents.ts";
import { isUnopenable } from "./errors.ts";
import type { Grant } from "./grants.ts";
import { hasPrefix } from "./ids.ts";
import type { World } from "./ports.ts";
import { connectionAad, registrationAad } from "./storage.ts";

/** Where a grant's tokens are given back, and as whom. */
export type RevocationWay = Pick<Way, "server" | "client">;

/**
 * What a revoked grant was made with: the way of its connection, else the registration that it names, which outlives an edit
 * and a deletion for this, else the operator's app, if it is still the same one. `record`: the connection as it was, or is.
 * Null: that client is not to be had any more, as one of a connection's own app whose edit this process has not made. Throws
 * `unavailable`: it cannot be had now.
 */
export async function revocationWay(
  { store, sealer, references }: Pick<World, "store" | "sealer" | "references">,
  authorization: AuthorizationDesk,
  grant: Grant,
  record: ConnectionRecord | null,
): Promise<RevocationWay | null> {
  const way = record && (await authorization.forGrant(record, grant));
  if (way) return way;
  const client = clientOf(grant.clientGeneration);
  if (client === null) return null;
  try {
    if (hasPrefix("reg", client)) {
      const registration = await store.registrations.find(grant.project, client);
      return registration && (await wayOfRegistration({ sealer, references }, registration, record));
    }
    const now = record?.connection.auth.kind === "oauth" ? await authorization.known(record) : null;
    const isSame = now?.server.issuer === grant.issuer && clientOf(now.clientGeneration) === client;
    return isSame ? now : null;
  } catch (error) {
    if (!isUnopenable(error)) throw error;
    return null;
  }
}

async function wayOfRegistration(
  { sealer, references }: Pick<World, "sealer" | "references">,
  registration: Registration,
  record: ConnectionRecord | null,
): Promise<RevocationWay | null> {
  const { id, project, connectionId, issuer, server, clientId, clientAuth, sealed } = registration;
  const way = async (held: HeldSecrets) => {
    const secrets = await usedSecrets(references, project, held);
    return { server, client: { clientId, ...secrets, auth: clientAuth } };
  };
  if (sealed) {
    const aad = registrationAad(project, connectionId, issuer, id);
    return way(readClientSecrets(await sealer.open(sealed, aad)));
  }
  if (clientAuth === "none") return way(NO_SECRETS);
  // The admin's own client, whose secret is the connection's: for this client at this issuer, or it goes nowhere (A7).
  const source = record?.connection.auth.kind === "oauth" ? record.connection.auth.source : null;
  if (!record?.sealed || source?.kind !== "discovery") return null;
  if (source.clientId !== clientId || source.issuer !== issuer || source.clientAuth !== clientAuth)
    return null;
  const aad = connectionAad(project, connectionId, record.connection.version);
  return way(readClientSecrets(await sealer.open(record.sealed, aad)));
}

/** The client's part of `clientGeneration`, without the connection's generation. Null: an app of the connection's own. */
function clientOf(clientGeneration: string): string | null {
  const [, client] = clientGeneration.split("/");
  return client ?? null;
}
