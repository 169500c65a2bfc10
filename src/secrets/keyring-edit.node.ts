import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chown, lstat, realpath, rm, stat } from "node:fs/promises";
import { KEY_BYTES } from "./cipher.ts";
import { codeOf, createOnce, putFile } from "./files.node.ts";
import { assembleKeyring, type Keyring, KeyringError, type SealingKey } from "./keyring.ts";
import { readKeyringFile } from "./keyring.node.ts";

/** A new random key. The id is new as well, so that no two keyrings mean different keys by one name. */
export function newSealingKey(): SealingKey {
  return { id: `k${randomBytes(4).toString("hex")}`, bytes: randomBytes(KEY_BYTES) };
}

/** As settings and files have it, one key a line or with commas between them. */
export function writeKeyring(keys: readonly SealingKey[], between: "\n" | ","): string {
  return keys.map(({ id, bytes }) => `${id}:${Buffer.from(bytes).toString("base64")}`).join(between);
}

/**
 * Changes a keyring file: whoever reads it meanwhile sees one of the two whole, and of two who change it at once one is refused, for
 * a key that gets lost takes with it what it sealed. The file keeps its owner and is readable by nobody else. A key that `change` leaves
 * out is kept beside the file (`removedPathOf`), and is there before it is gone here.
 *
 * `change` is told when the file was changed last (`changedAt`). Throws `KeyringError`, which says what is wrong, never what a key is.
 */
export async function editKeyringFile(
  path: string,
  change: (keyring: Keyring, changedAt: number) => readonly SealingKey[],
): Promise<Keyring> {
  const file = await realpath(path).catch(notReadable(path));
  const lock = `${file}.lock`;
  const isMine = await createOnce(lock, `${process.pid}\n`).catch(notWritable(path));
  if (!isMine)
    throw new KeyringError([`somebody else is changing ${path}. If nobody is, remove ${lock} and try again`]);
  try {
    const owner = await stat(file);
    const before = await readKeyringFile(file);
    const changed = assembleKeyring(change(before, await keyringChangedAt(path)), []);
    const removed = before.filter((key) => !changed.some(({ id }) => id === key.id));
    if (removed.length > 0)
      await keepRemoved(await removedPathOf(file), removed, owner).catch(notWritable(path));
    await putKeys(file, changed, owner).catch(notWritable(path));
    return changed;
  } finally {
    await rm(lock, { force: true });
  }
}

/**
 * When the file came to be as it is, in milliseconds since the epoch. Not when it was written: one that was prepared an hour ago and put
 * in place just now is new to everybody.
 */
export async function keyringChangedAt(path: string): Promise<number> {
  const [link, file] = await Promise.all([lstat(path), stat(path)]).catch(notReadable(path));
  return Math.max(link.ctimeMs, file.ctimeMs);
}

/** Where the keys are that were taken out of this file, one a line. */
export const removedPathOf = async (path: string) => `${await realpath(path)}.removed`;

async function keepRemoved(path: string, removed: readonly SealingKey[], owner: FileOwner): Promise<void> {
  const kept = existsSync(path) ? await readKeyringFile(path) : [];
  // It was put back in between. Another key of the same name is refused, for one of the two would be lost.
  const more = removed.filter(
    ({ id, bytes }) => !kept.some((one) => one.id === id && Buffer.compare(one.bytes, bytes) === 0),
  );
  const twice = more.find(({ id }) => kept.some((one) => one.id === id));
  if (twice) throw new KeyringError([`${path} has another key ${twice.id}; move that file away`]);
  await putKeys(path, [...more, ...kept], owner);
}

type FileOwner = { uid: number; gid: number };

async function putKeys(file: string, keys: readonly SealingKey[], owner: FileOwner): Promise<void> {
  await putFile(file, `${writeKeyring(keys, "\n")}\n`, 0o600);
  // Changed by root, it must not be out of the broker's sight.
  const now = await stat(file);
  if (now.uid !== owner.uid || now.gid !== owner.gid) await chown(file, owner.uid, owner.gid);
}

const notReadable = (path: string) => (error: unknown) => {
  throw new KeyringError([`${path} cannot be read (${codeOf(error)})`], { cause: error });
};

const notWritable = (path: string) => (error: unknown) => {
  if (error instanceof KeyringError) throw error;
  const advice = "change it where it comes from";
  throw new KeyringError([`${path} cannot be written here (${codeOf(error)}): ${advice}`], { cause: error });
};
