import type { Clock, Log } from "../core/ports.ts";
import { assembleKeyring, type Keyring, KeyringError, type SealingKey } from "./keyring.ts";
import { readVersion, withoutRepeats } from "./keyring-versions.ts";
import { openWatchedKeyring, type WatchedKeys } from "./keyring-watch.ts";
import type { Vaults } from "./keyvault.ts";
import { type SecretId, writeSecretId } from "./secret-ids.ts";

/**
 * The keyring in a secret of a vault: the keys of all its usable versions, newest first. A version that is added seals as soon
 * as it is seen, which is within `REFRESH_MS`, or at once where a box names it; one that is disabled opens nothing any more.
 * While the vault gives nothing that can be used, what is known serves on for `SERVE_MS` since it was read last.
 *
 * The first reading must succeed: throws `KeyringError`, which says why.
 */
export async function openVaultKeyring(deps: {
  secret: SecretId;
  vaults: Vaults;
  clock: Clock;
  log: Log;
}): Promise<WatchedKeys> {
  const { secret, vaults } = deps;
  // What a version holds never changes, so each is read once.
  const known = new Map<string, SealingKey[]>();

  async function read(): Promise<Keyring> {
    const versions = given(await vaults.versions(secret));
    for (const version of known.keys()) if (!versions.includes(version)) known.delete(version);
    for (const version of versions.filter((one) => !known.has(one)))
      known.set(version, readVersion(version, given(await vaults.value({ ...secret, version }))));
    if (versions.length === 0) throw new KeyringError(["it has no version that may be used now"]);
    const keys = versions.flatMap((version) => known.get(version) ?? []);
    return assembleKeyring(withoutRepeats(keys), []);
  }

  const source = {
    name: writeSecretId(secret),
    read,
    everyMs: REFRESH_MS,
    againMs: LOOK_EVERY_MS,
    missingMs: { box: LOOK_EVERY_MS, proof: LOOK_EVERY_MS },
    serveMs: SERVE_MS,
  };
  return openWatchedKeyring(source, deps);
}

/** How long a key that was added can go unseen by a replica, as long as no box names it. */
export const REFRESH_MS = 5 * 60_000;
/** How often a key that is missing makes us look, and a vault in trouble is asked again. */
export const LOOK_EVERY_MS = 60_000;
/** How long a vault may be away, or hold something that cannot be used. Then nobody knows whether the keys are still good. */
export const SERVE_MS = 24 * 60 * 60_000;

function given<T>(outcome: { ok: true; value: T } | { ok: false; failure: { why: string } }): T {
  if (outcome.ok) return outcome.value;
  throw new KeyringError([outcome.failure.why]);
}
