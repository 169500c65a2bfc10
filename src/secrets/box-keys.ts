import type { BoxKeys } from "../core/reseal.ts";
import type { Keyring, SealingKey } from "./keyring.ts";
import { type Keys, keysOf } from "./keys.ts";
import { keyIdOf } from "./seal.ts";

/** What a keyring says of boxes, without opening them. */
export function createBoxKeys(keyring: Keyring | Keys): BoxKeys {
  const keys = keysOf(keyring);
  const idOf = ({ id }: SealingKey) => id;
  return {
    ids: async () => {
      const [newest, ...older] = await keys.current();
      return [idOf(newest), ...older.map(idOf)];
    },
    named: keyIdOf,
  };
}
