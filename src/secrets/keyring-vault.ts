import { BrokerError } from "../core/errors.ts";
import type { Clock, Log } from "../core/ports.ts";
import { assembleKeyring, type Keyring, KeyringError, type SealingKey } from "./keyring.ts";
import { readVersion, withoutRepeats } from "./keyring-versions.ts";
import type { Keys } from "./keys.ts";
import type { Vaults } from "./keyvault.ts";
import { type SecretId, writeSecretId } from "./secret-ids.ts";

/** A keyring that is looked at again while it is used. */
export type WatchedKeys = Keys & {
  /** Looks again every few minutes, until it is stopped. `stop` resolves when the look under way has ended. */
  watch: () => { stop: () => Promise<void> };
};

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
  const { secret, vaults, clock, log } = deps;
  const name = writeSecretId(secret);
  // What a version holds never changes, so each is read once.
  const known = new Map<string, SealingKey[]>();
  let failure: string | null = null;
  let looking: Promise<void> | null = null;
  const lookedAt = { box: -Infinity, proof: -Infinity };

  async function read(): Promise<Keyring> {
    const versions = given(await vaults.versions(secret));
    for (const version of known.keys()) if (!versions.includes(version)) known.delete(version);
    for (const version of versions.filter((one) => !known.has(one)))
      known.set(version, readVersion(version, given(await vaults.value({ ...secret, version }))));
    if (versions.length === 0) throw new KeyringError(["it has no version that may be used now"]);
    const keys = versions.flatMap((version) => known.get(version) ?? []);
    return assembleKeyring(withoutRepeats(keys), []);
  }

  let readAt = clock.now();
  let ring = await read().catch((error: unknown) => {
    throw new KeyringError([`${name} cannot be used: ${whyOf(error)}`], { cause: error });
  });

  function look(): Promise<void> {
    looking ??= lookNow().finally(() => {
      looking = null;
    });
    return looking;
  }

  async function lookNow(): Promise<void> {
    const begun = clock.now();
    try {
      const found = await read();
      const ids = found.map(({ id }) => id);
      if (ids.join() !== ring.map(({ id }) => id).join()) log("info", "keyring_changed", { keyIds: ids });
      ring = found;
      readAt = begun;
      if (failure !== null) log("info", "keyring_reachable", { secret: name });
      failure = null;
    } catch (error) {
      const why = whyOf(error);
      if (failure === null) log("error", "keyring_unreachable", { secret: name, why });
      failure = why;
    }
  }

  async function another(missing: "box" | "proof"): Promise<{ keyring: Keyring; isSure: boolean }> {
    // A look under way costs nothing, and does not count: it may have begun too early to see the key.
    const isMine = looking === null;
    if (isMine) {
      if (clock.now() - lookedAt[missing] < LOOK_EVERY_MS) return { keyring: ring, isSure: false };
      lookedAt[missing] = clock.now();
    }
    await look();
    return { keyring: ring, isSure: isMine && failure === null };
  }

  const isKnown = (graceMs = 0) => clock.now() - readAt <= SERVE_MS + graceMs;
  async function currentAfterAll(): Promise<Keyring> {
    await another("box");
    if (isKnown()) return ring;
    const hours = Math.floor((clock.now() - readAt) / HOUR_MS);
    // Where it is, and why it cannot be read, is in the log: the callers of public routes come here, too.
    const what = `the keyring was last read ${hours} hours ago, which is too long`;
    throw new BrokerError("unavailable", { what, passing: true });
  }

  return {
    current: () => (isKnown() ? ring : currentAfterAll()),
    newest: async () => (isKnown(SEAL_GRACE_MS) ? ring : await currentAfterAll())[0],
    another,
    watch: () => {
      const stopping = new AbortController();
      const { signal } = stopping;
      const watching = (async () => {
        while (!signal.aborted) {
          await clock.sleep(failure === null ? REFRESH_MS : LOOK_EVERY_MS, signal);
          if (!signal.aborted) await look();
        }
      })();
      return {
        stop: () => {
          stopping.abort();
          return watching;
        },
      };
    },
  };
}

/** How long a key that was added can go unseen by a replica, as long as no box names it. */
export const REFRESH_MS = 5 * 60_000;
/** How often a key that is missing makes us look, and a vault in trouble is asked again. */
export const LOOK_EVERY_MS = 60_000;
/** How long a vault may be away, or hold something that cannot be used. Then nobody knows whether the keys are still good. */
export const SERVE_MS = 24 * 60 * 60_000;
/** Longer than any exchange takes, from opening a token to sealing the one that came for it. */
const SEAL_GRACE_MS = 60_000;
const HOUR_MS = 60 * 60_000;

function given<T>(outcome: { ok: true; value: T } | { ok: false; failure: { why: string } }): T {
  if (outcome.ok) return outcome.value;
  throw new KeyringError([outcome.failure.why]);
}

function whyOf(error: unknown): string {
  if (error instanceof KeyringError) return error.faults.join("; ");
  return error instanceof Error ? error.name : "unknown";
}
