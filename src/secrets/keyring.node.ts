import { randomBytes } from "node:crypto";
import { link, mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { KEY_BYTES } from "./cipher.ts";
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
 * Of any number of processes that start at once exactly one makes the file, and all return its key: the file is
 * written whole under another name and then linked to its own, which fails for everybody but the first. It is on disk
 * before this returns, so that no box can outlive its key.
 *
 * Throws `KeyringError` also for a file that others may read.
 */
export async function ensureKeyringFile(path: string): Promise<{ keyring: Keyring; created: boolean }> {
  const created = (await isMissing(path)) && (await create(path));
  await refuseReadableByOthers(path);
  return { keyring: await readKeyringFile(path), created };
}

async function create(path: string): Promise<boolean> {
  const folder = dirname(path);
  // The id is new as well: should this file be lost, boxes name a key that is missing instead of seeming damaged.
  const id = `k${randomBytes(4).toString("hex")}`;
  const draft = join(folder, `.${basename(path)}.${randomBytes(8).toString("hex")}`);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await writeToDisk(draft, `${id}:${randomBytes(KEY_BYTES).toString("base64")}\n`);
    await link(draft, path);
    await syncFolder(folder);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    const advice = "set CONSENTRY_KEYRING, or make the folder writable";
    throw new KeyringError([`${path} cannot be made (${codeOf(error)}): ${advice}`], { cause: error });
  } finally {
    await rm(draft, { force: true });
  }
}

async function writeToDisk(path: string, text: string): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(folder: string): Promise<void> {
  // Windows opens no folders; there the link is durable with the file.
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function refuseReadableByOthers(path: string): Promise<void> {
  // Windows has no such bits.
  if (process.platform === "win32") return;
  const { mode } = await stat(path);
  if ((mode & 0o077) === 0) return;
  throw new KeyringError([`${path} can be read by others than its owner (chmod 600 mends that)`]);
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

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "unknown";
}
