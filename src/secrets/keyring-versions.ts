import { KEY_BYTES } from "./cipher.ts";
import {
  decodeBase64,
  isPlaceholder,
  KEY_ID,
  KeyringError,
  parseKeyring,
  type SealingKey,
} from "./keyring.ts";

/**
 * The keys in one version of a vault's secret: 32 bytes in base64, and then the version is the key's id, or a list as
 * settings have it, `id:base64[,id:base64…]`. Throws `KeyringError`, which names the version and never what it holds.
 */
export function readVersion(version: string, value: string): SealingKey[] {
  const keys = value.includes(":") ? readList(version, value) : [readKey(version, value.trim())];
  const placeholder = keys.find(isPlaceholder);
  if (placeholder) throw fault(version, `holds a placeholder instead of a random key (${placeholder.id})`);
  return keys;
}

function readList(version: string, value: string): SealingKey[] {
  try {
    return [...parseKeyring(value)];
  } catch (error) {
    if (!(error instanceof KeyringError)) throw error;
    throw new KeyringError(error.faults.map((why) => `version ${version}: ${why}`));
  }
}

function readKey(version: string, value: string): SealingKey {
  if (value === "") throw fault(version, "is empty");
  const bytes = KEY_ID.test(version) ? decodeBase64(value) : null;
  if (!bytes) throw fault(version, `is neither ${KEY_BYTES} bytes in base64 nor a list of id:base64`);
  if (bytes.length !== KEY_BYTES) throw fault(version, `has ${bytes.length} bytes instead of ${KEY_BYTES}`);
  return { id: version, bytes };
}

/**
 * The keys of all versions, in their order. One that a later version repeats, as whoever adds a key to a list does, is the
 * same key, and counts once.
 */
export function withoutRepeats(keys: readonly SealingKey[]): SealingKey[] {
  return keys.filter(
    (key, at) => !keys.slice(0, at).some((earlier) => earlier.id === key.id && isSame(earlier, key)),
  );
}

function isSame(a: SealingKey, b: SealingKey): boolean {
  return a.bytes.length === b.bytes.length && a.bytes.every((byte, at) => byte === b.bytes[at]);
}

function fault(version: string, why: string): KeyringError {
  return new KeyringError([`version ${version} ${why}`]);
}
