import { randomBytes } from "node:crypto";
import { chown, realpath, rm, stat } from "node:fs/promises";
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
 * a key that gets lost takes with it what it sealed. The file keeps its owner and is readable by nobody else.
 *
 * Throws `KeyringError`, which says what is wrong, never what a key is.
 */
export async function editKeyringFile(
  path: string,
  change: (keyring: Keyring) => readonly SealingKey[],
): Promise<Keyring> {
  const file = await realpath(path).catch((error: unknown) => {
    throw new KeyringError([`${path} cannot be read (${codeOf(error)})`], { cause: error });
  });
  const lock = `${file}.lock`;
  const isMine = await createOnce(lock, `${process.pid}\n`).catch(notWritable(path));
  if (!isMine)
    throw new KeyringError([`somebody else is changing ${path}. If nobody is, remove ${lock} and try again`]);
  try {
    const changed = assembleKeyring(change(await readKeyringFile(file)), []);
    const { uid, gid } = await stat(file);
    await putFile(file, `${writeKeyring(changed, "\n")}\n`, 0o600).catch(notWritable(path));
    await keepOwner(file, { uid, gid });
    return changed;
  } finally {
    await rm(lock, { force: true });
  }
}

/** Changed by root, it must not be out of the broker's sight. */
async function keepOwner(file: string, owner: { uid: number; gid: number }): Promise<void> {
  const now = await stat(file);
  if (now.uid !== owner.uid || now.gid !== owner.gid) await chown(file, owner.uid, owner.gid);
}

const notWritable = (path: string) => (error: unknown) => {
  const advice = "change it where it comes from";
  throw new KeyringError([`${path} cannot be written here (${codeOf(error)}): ${advice}`], { cause: error });
};
