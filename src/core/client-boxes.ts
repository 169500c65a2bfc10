import { createCache } from "./cache.ts";
import { type ClientSecrets, NO_SECRETS, readClientSecrets } from "./client-secrets.ts";
import type { ConnectionRecord, ConnectorRecord } from "./connection.ts";
import type { Registration } from "./consents.ts";
import { isRefusal } from "./errors.ts";
import type { World } from "./ports.ts";
import { connectionAad, connectorAad, registrationAad } from "./storage.ts";

/** Where the secrets of OAuth clients come from. The first two throw `unavailable` when a box cannot be opened. */
export type ClientBoxes = {
  ofConnection: (record: ConnectionRecord) => Promise<ClientSecrets>;
  ofConnector: (record: ConnectorRecord) => Promise<ClientSecrets>;
  /** Null: it cannot be opened. Nobody typed it, so that another client can take its place. */
  ofRegistration: (registration: Registration) => Promise<ClientSecrets | null>;
};

export function createClientBoxes({ sealer, clock }: Pick<World, "sealer" | "clock">): ClientBoxes {
  // By connection, connector and registration version: an edit is a new key.
  const secrets = createCache<ClientSecrets>({ max: MAX_OPENED, now: clock.now });

  async function opened(key: string, sealed: Uint8Array | null, aad: string): Promise<ClientSecrets> {
    if (!sealed) return NO_SECRETS;
    const cached = secrets.get(key);
    if (cached) return cached;
    const read = readClientSecrets(await sealer.open(sealed, aad));
    secrets.set(key, read, { ttlMs: OPENED_TTL_MS });
    return read;
  }

  return {
    ofConnection: ({ connection: { project, id, version }, sealed }) =>
      opened(`${id}:${version}`, sealed, connectionAad(project, id, version)),
    ofConnector: ({ connector: { name, version, createdAt }, sealed }) =>
      opened(`connector:${name}:${createdAt}:${version}`, sealed, connectorAad(name, version)),
    ofRegistration: async ({ project, connectionId, issuer, id, sealed }) => {
      try {
        return await opened(id, sealed, registrationAad(project, connectionId, issuer, id));
      } catch (error) {
        if (!isRefusal(error, "unavailable")) throw error;
        return null;
      }
    },
  };
}

const MAX_OPENED = 10_000;
const OPENED_TTL_MS = 5 * 60_000;
