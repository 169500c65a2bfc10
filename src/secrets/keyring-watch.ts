import { BrokerError } from "../core/errors.ts";
import { every } from "../core/every.ts";
import type { Clock, Log } from "../core/ports.ts";
import { type Keyring, KeyringError } from "./keyring.ts";
import type { Keys } from "./keys.ts";

/** A keyring that is looked at again while it is used. */
export type WatchedKeys = Keys & {
  /** Looks again every now and then, until it is stopped. `stop` resolves when the look under way has ended. */
  watch: () => { stop: () => Promise<void> };
};

/** Where a keyring is kept, and how often that is looked at. */
export type KeyringSource = {
  /** As the log and the faults have it. */
  name: string;
  /** What was read already. */
  first?: Keyring;
  /** Throws `KeyringError`, or whatever went wrong, for which the keyring is then not to be had. */
  read: () => Promise<Keyring>;
  /** How long a key that was added can go unseen, as long as no box names it. */
  everyMs: number;
  /** How often a place in trouble is asked again, and how often a key that is missing makes us look, for a box and for a proof. */
  againMs: number;
  missingMs: { box: number; proof: number };
  /** How long what was read last serves. Then nobody knows whether the keys are still good. */
  serveMs: number;
};

/**
 * A keyring that is read anew where it is kept. A key that is added seals as soon as it is seen, or opens at once where a box names
 * it; one that is taken out opens nothing any more. While its place gives nothing that can be used, what is known serves on.
 *
 * The first reading must succeed: throws `KeyringError`, which says why.
 */
export async function openWatchedKeyring(
  source: KeyringSource,
  { clock, log }: { clock: Clock; log: Log },
): Promise<WatchedKeys> {
  const { name, read, everyMs, againMs, missingMs, serveMs } = source;
  let failure: string | null = null;
  let looking: Promise<void> | null = null;
  const lookedAt = { box: -Infinity, proof: -Infinity };

  let readAt = clock.now();
  let ring = source.first ?? (await firstOf(source));

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
      if (clock.now() - lookedAt[missing] < missingMs[missing]) return { keyring: ring, isSure: false };
      lookedAt[missing] = clock.now();
    }
    await look();
    return { keyring: ring, isSure: isMine && failure === null };
  }

  const isKnown = (graceMs = 0) => clock.now() - readAt <= serveMs + graceMs;
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
      const pauseMs = () => (failure === null ? everyMs : againMs);
      const watching = every({ clock, pauseMs, over: stopping.signal }, look);
      return {
        stop: () => {
          stopping.abort();
          return watching;
        },
      };
    },
  };
}

async function firstOf({ name, read }: KeyringSource): Promise<Keyring> {
  try {
    return await read();
  } catch (error) {
    throw new KeyringError([`${name} cannot be used: ${whyOf(error)}`], { cause: error });
  }
}

/** Longer than any exchange takes, from opening a token to sealing the one that came for it. */
const SEAL_GRACE_MS = 60_000;
const HOUR_MS = 60 * 60_000;

function whyOf(error: unknown): string {
  if (error instanceof KeyringError) return error.faults.join("; ");
  return error instanceof Error ? error.name : "unknown";
}
