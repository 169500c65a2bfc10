import type { Keyring, SealingKey } from "./keyring.ts";

/** A keyring that may change while it is used. */
export type Keys = {
  /** As it is known now. Throws `unavailable` when nobody has heard of it for too long. */
  current: () => Keyring | Promise<Keyring>;
  /**
   * What seals. Serves a little longer than `current`: what was opened in time, and led to something new, can be kept
   * (threats, rule 4). Throws as `current` does.
   */
  newest: () => SealingKey | Promise<SealingKey>;
  /**
   * After a key was missing: as it is after one more look at where it is kept, for another replica may have seen a new key
   * first. Who looks too often gets what is known; boxes and proofs are counted apart, for anybody can make up a proof. `isSure`:
   * this look was made now, and answered.
   */
  another: (missing: "box" | "proof") => Promise<{ keyring: Keyring; isSure: boolean }>;
};

/** Keys of whoever has a keyring that stays as it is. */
export function keysOf(keyring: Keyring | Keys): Keys {
  if ("current" in keyring) return keyring;
  return {
    current: () => keyring,
    newest: () => keyring[0],
    another: async () => ({ keyring, isSure: true }),
  };
}
