import type { Clock, Sealer } from "../../src/core/ports.ts";
import { noObserver } from "../../src/core/observe.ts";
import { createResealer, type Resealer } from "../../src/core/reseal.ts";
import type { Store } from "../../src/core/storage.ts";
import { createBoxKeys } from "../../src/secrets/box-keys.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import type { Keyring, SealingKey } from "../../src/secrets/keyring.ts";
import { createSealer } from "../../src/secrets/seal.ts";
import { id } from "../store/things.ts";

const suite = createNodeCrypto();

export const aSealingKey = (name: string): SealingKey => ({ id: name, bytes: suite.randomBytes(32) });

export const realClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const timer = setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    }),
};

export type Resealing = {
  sealer: Sealer;
  resealer: Resealer;
  logs: { event: string; fields: Record<string, unknown> }[];
};

/** What seals on a store under a keyring, and seals anew. */
export function resealing(store: Store, keyring: Keyring, clock: Clock = realClock): Resealing {
  const sealer = createSealer({ keyring, suite });
  const logs: Resealing["logs"] = [];
  const world = {
    clock,
    log: (_: string, event: string, fields = {}) => logs.push({ event, fields }),
    newId: id,
    observer: noObserver,
    sealer,
    store,
  };
  return { sealer, resealer: createResealer(world, createBoxKeys(keyring)), logs };
}
