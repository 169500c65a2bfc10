import { randomBytes } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { KEY_BYTES } from "./cipher.ts";
import { codeOf, createOnce, isReadableByOthers } from "./files.node.ts";
import { KeyringError, parseKeyring } from "./keyring.ts";
import type { Keyring } from "./keyring.ts";

/** Reads a keyring file. Throws `KeyringError`, which names the file and what is wrong, never what it holds. */
export async function readKeyringFile(path: string): Promise<Keyring> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new KeyringError([`${path} cannot be read (${codeOf(error)})`], { cause: error });
  });
  try {
    return parseKeyring(text);
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    throw new KeyringError(error.faults.map((fault) => `${path}: ${fault}`));
  }
}

/**
 * The keyring of a broker on a laptop: the file's, or one new key in a new file of mode 0600. `created` says which.
 *
 * Of any number of processes that start at once exactly one makes the file, and all return its key. It is on disk before
 * this returns, so that no box can outlive its key.
 *
 * Throws `KeyringError` also for a file that others may read.
 */
export async function ensureKeyringFile(path: string): Promise<{ keyring: Keyring; created: boolean }> {
  const created = (await isMissing(path)) && (await create(path));
  if (await isReadableByOthers(path))
    throw new KeyringError([`${path} can be read by others than its owner (chmod 600 mends that)`]);
  return { keyring: await readKeyringFile(path), created };
}

async function create(path: string): Promise<boolean> {
  // The id is new as well: should this file be lost, boxes name a key that is missing instead of seeming damaged.
  const id = `k${randomBytes(4).toString("hex")}`;
  return createOnce(path, `${id}:${randomBytes(KEY_BYTES).toString("base64")}\n`).catch((error: unknown) => {
    const advice = "set CONSENTRY_KEYRING, or make the folder writable";
    throw new KeyringError([`${path} cannot be made (${codeOf(error)}): ${advice}`], { cause: error });
  });
}

async function isMissing(path: string): Promise<boolean> {
  return stat(path).then(
    () => false,
    (error: unknown) => {
      if (codeOf(error) === "ENOENT") return true;
      throw new KeyringError([`${path} cannot be read (${codeOf(error)})`], { cause: error });
    },
  );
}
