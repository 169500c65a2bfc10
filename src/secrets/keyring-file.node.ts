import type { Clock, Log } from "../core/ports.ts";
import { readKeyringFile } from "./keyring.node.ts";
import { type Keyring, KeyringError } from "./keyring.ts";
import { openWatchedKeyring, type WatchedKeys } from "./keyring-watch.ts";

/**
 * The keyring in a file, which was read already: a key that is put there seals within `REFRESH_MS`, and opens at once where a box
 * names it. While the file is missing, cannot be read or is no keyring, what was read last serves on.
 */
export function watchKeyringFile(
  path: string,
  first: Keyring,
  deps: { clock: Clock; log: Log },
): Promise<WatchedKeys> {
  let last = first;
  async function read(): Promise<Keyring> {
    last = joined(last, await readKeyringFile(path));
    return last;
  }
  const source = {
    name: path,
    first,
    read,
    everyMs: REFRESH_MS,
    againMs: REFRESH_MS,
    // A file is read in less time than a box is opened. Proofs are made up by whoever likes to.
    missingMs: { box: 0, proof: 1_000 },
    serveMs: Infinity,
  };
  return openWatchedKeyring(source, deps);
}

/** How long a key that was added to the file can go unseen, as long as no box names it. */
export const REFRESH_MS = 30_000;

/**
 * As the file has it now, with the keys that were known as the same objects, for whoever has prepared them. A key is never another one
 * under its old name: what it sealed would seem damaged.
 */
function joined(before: Keyring, now: Keyring): Keyring {
  const [newest, ...older] = now.map((key) => {
    const known = before.find(({ id }) => id === key.id);
    if (!known) return key;
    if (Buffer.compare(known.bytes, key.bytes) === 0) return known;
    throw new KeyringError([`the key ${key.id} is another one than before`]);
  });
  return newest ? [newest, ...older] : now;
}
