import { existsSync } from "node:fs";
import type { Config } from "./config.ts";
import { noObserver } from "./core/observe.ts";
import type { Clock, Log } from "./core/ports.ts";
import { createResealer, type Resealer } from "./core/reseal.ts";
import type { Store } from "./core/storage.ts";
import { openStore } from "./database.ts";
import { loadKeys } from "./first-start.ts";
import { createDefaultCredential } from "./secrets/azure-credential.ts";
import { createBoxKeys } from "./secrets/box-keys.ts";
import { createNodeCrypto } from "./secrets/crypto.node.ts";
import { createNewId } from "./secrets/ids.ts";
import { type Keyring, KeyringError } from "./secrets/keyring.ts";
import { createVaults } from "./secrets/keyvault.ts";
import { createSealer } from "./secrets/seal.ts";

/** What the commands share: how they speak, and for some the keyring and the database. */
export type Outside = {
  say: (line: string) => void;
  complain: (line: string) => void;
  /** Whether what is said is seen by a person alone, and kept nowhere. */
  isTerminal: boolean;
  signal: AbortSignal;
  clock: Clock;
};
export type Desk = Outside & {
  config: Config;
  keyring: Keyring;
  store: Store;
  resealer: Resealer;
  close: () => Promise<void>;
};

/** Opens keyring and database as the broker does, and makes neither. Throws `KeyringError`, and `unavailable`. */
export async function openDesk(config: Config, outside: Outside): Promise<Desk> {
  if (config.database.kind === "sqlite" && !existsSync(config.database.path))
    throw new KeyringError([`there is no database at ${config.database.path}`]);
  const { clock } = outside;
  const log: Log = (level, event, fields) => {
    if (level === "warn" || level === "error") outside.complain(JSON.stringify({ level, event, ...fields }));
  };
  const store = await openStore(config, log);
  try {
    // An empty one would let every key go.
    if ((await store.keys.getBootstrap()) === null)
      throw new KeyringError([
        `${nameOf(config)} is no broker's yet, which makes its keyring at its first start`,
      ]);
    const vaults = createVaults({ credential: createDefaultCredential(), clock });
    const keys = await loadKeys(config, { store, vaults, clock, log });
    const sealer = createSealer({ keyring: keys, suite: createNodeCrypto() });
    const randomBytes = (count: number) => crypto.getRandomValues(new Uint8Array(count));
    const newId = createNewId({ randomBytes, now: clock.now });
    const world = { clock, log, newId, observer: noObserver, sealer, store };
    const resealer = createResealer(world, createBoxKeys(keys));
    return { ...outside, config, keyring: await keys.current(), store, resealer, close: store.close };
  } catch (error) {
    await store.close();
    throw error;
  }
}

const nameOf = ({ database }: Config) => (database.kind === "sqlite" ? database.path : "the database");
