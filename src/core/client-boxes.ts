import { createCache } from "./cache.ts";
import {
  type ClientSecrets,
  type HeldSecrets,
  NO_SECRETS,
  readClientSecrets,
  usedSecrets,
} from "./client-secrets.ts";
import type { ConnectionRecord, ConnectorRecord } from "./connection.ts";
import type { Registration } from "./consents.ts";
import { BrokerError, isRefusal, isUnopenable } from "./errors.ts";
import type { World } from "./ports.ts";
import { CONNECTORS } from "./secret-references.ts";
import { connectionAad, connectorAad, registrationAad } from "./storage.ts";

/**
 * Where the secrets of OAuth clients come from. All throw `unavailable`: the first two when a box cannot be opened, or a secret that
 * is kept elsewhere cannot be had, the last one only when that passes.
 */
export type ClientBoxes = {
  ofConnection: (record: ConnectionRecord) => Promise<ClientSecrets>;
  ofConnector: (record: ConnectorRecord) => Promise<ClientSecrets>;
  /** Null: it cannot be opened any more. Nobody typed it, so that another client can take its place. */
  ofRegistration: (registration: Registration) => Promise<ClientSecrets | null>;
};

export function createClientBoxes({
  sealer,
  clock,
  references,
  log,
}: Pick<World, "sealer" | "clock" | "references" | "log">): ClientBoxes {
  // By connection, connector and registration version: an edit is a new key.
  const secrets = createCache<HeldSecrets>({ max: MAX_OPENED, now: clock.now });

  async function held(key: string, sealed: Uint8Array, aad: string): Promise<HeldSecrets> {
    const cached = secrets.get(key);
    if (cached) return cached;
    const read = readClientSecrets(await sealer.open(sealed, aad));
    secrets.set(key, read, { ttlMs: OPENED_TTL_MS });
    return read;
  }

  /** `project`: whose references count. */
  async function opened(
    project: string,
    { key, sealed, aad }: { key: string; sealed: Uint8Array | null; aad: string },
  ): Promise<ClientSecrets> {
    return sealed ? usedSecrets(references, project, await held(key, sealed, aad)) : NO_SECRETS;
  }

  return {
    ofConnection: ({ connection: { project, id, version }, sealed }) =>
      opened(project, { key: `${id}:${version}`, sealed, aad: connectionAad(project, id, version) }),
    ofConnector: async ({ connector: { name, version, createdAt }, sealed }) => {
      const key = `connector:${name}:${createdAt}:${version}`;
      try {
        return await opened(CONNECTORS, { key, sealed, aad: connectorAad(name, version) });
      } catch (error) {
        if (!isRefusal(error, "unavailable") || error.details.reference === undefined) throw error;
        // Projects use a connector; where its secret is kept is the operator's to know.
        log("warn", "connector_secret_unusable", { connector: name, why: error.details.what });
        const what = `the secret of the connector ${name} cannot be had`;
        throw new BrokerError("unavailable", { ...error.details, what }, { cause: error });
      }
    },
    ofRegistration: async ({ project, connectionId, issuer, id, sealed }) => {
      try {
        return await opened(project, {
          key: id,
          sealed,
          aad: registrationAad(project, connectionId, issuer, id),
        });
      } catch (error) {
        if (!isUnopenable(error)) throw error;
        return null;
      }
    },
  };
}

const MAX_OPENED = 10_000;
const OPENED_TTL_MS = 5 * 60_000;
