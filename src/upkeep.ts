import type { Broker } from "./core/broker.ts";
import { createHousekeeper } from "./core/housekeeping.ts";
import type { World } from "./core/ports.ts";
import { createResealer } from "./core/reseal.ts";
import { createBoxKeys } from "./secrets/box-keys.ts";
import type { Keys } from "./secrets/keys.ts";
import { startSweeps } from "./sweeps.ts";

/** What is done without anybody's request, for as long as the broker runs. Part of the door `node.ts`. */
export function startUpkeep(
  world: World,
  { broker, keys }: { broker: Broker; keys: Keys },
): { stop: () => Promise<void> } {
  const sweeps = startSweeps(world, {
    housekeeping: createHousekeeper(world).tend,
    revocations: () => broker.disconnect.sweep(),
    signingKeys: () => world.workload.sweep(),
  });
  // By itself, for it may take long; and often, for it begins when the keyring has another newest key.
  const { tend } = createResealer(world, createBoxKeys(keys));
  const resealing = startSweeps(world, { reseal: tend }, RESEAL_MS);
  return {
    stop: async () => {
      await Promise.all([sweeps.stop(), resealing.stop()]);
    },
  };
}

const RESEAL_MS = 60_000;
