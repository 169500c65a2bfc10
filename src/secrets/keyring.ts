import { KEY_BYTES } from "./cipher.ts";

/** A named 32-byte key. The name is public: every box carries it. */
export type SealingKey = { id: string; bytes: Uint8Array };

/** Newest first, never empty: the first seals, all open. */
export type Keyring = readonly [SealingKey, ...SealingKey[]];

/** Why a keyring was refused: every fault at once, none of them with key material. */
export class KeyringError extends Error {
  readonly faults: readonly string[];
  constructor(faults: readonly string[], options?: { cause?: unknown }) {
    super(`The keyring is not usable: ${faults.join("; ")}.`, options);
    this.name = "KeyringError";
    this.faults = faults;
  }
}

/** Short enough for a box's header, plain enough for a log line. */
export const KEY_ID = /^[A-Za-z0-9._-]{1,32}$/;

/**
 * Reads `id:base64[,id:base64…]`, newest first; commas, blanks and line ends all separate, so that a file may hold one
 * key a line. Both alphabets of base64 are read, with or without padding.
 *
 * Throws `KeyringError` with every fault. Entries are named by their place and, once it is known to be one, by their
 * id: what stands before a colon may itself be a key that was pasted wrongly.
 */
export function parseKeyring(text: string): Keyring {
  const read = text
    .split(/[\s,]+/)
    .filter(Boolean)
    .map(readEntry);
  const keys = read.flatMap((entry) => (entry.ok ? [entry.key] : []));
  return assembleKeyring(
    keys,
    read.flatMap((entry) => (entry.ok ? [] : [entry.fault])),
  );
}

/** A keyring of these keys. Throws `KeyringError` with these faults and its own: an id or a key that occurs twice, no key at all. */
export function assembleKeyring(keys: readonly SealingKey[], before: readonly string[]): Keyring {
  const faults = [...before, ...repetitions(keys)];
  const [newest, ...older] = keys;
  if (!newest && faults.length === 0) throw new KeyringError(["it holds no key (expected id:base64)"]);
  if (faults.length > 0 || !newest) throw new KeyringError(faults);
  return [newest, ...older];
}

type Entry = { ok: true; key: SealingKey } | { ok: false; fault: string };

function readEntry(text: string, index: number): Entry {
  const place = `entry ${index + 1}`;
  const colon = text.indexOf(":");
  if (colon < 0) return { ok: false, fault: `${place} has no id (expected id:base64)` };
  const id = text.slice(0, colon);
  if (!KEY_ID.test(id)) {
    return { ok: false, fault: `${place} has an id that is not 1 to 32 letters, digits, ".", "_" or "-"` };
  }
  const bytes = decodeBase64(text.slice(colon + 1));
  if (!bytes) return { ok: false, fault: `${place} (${id}) is not base64` };
  if (bytes.length !== KEY_BYTES) {
    return { ok: false, fault: `${place} (${id}) has ${bytes.length} bytes instead of ${KEY_BYTES}` };
  }
  return { ok: true, key: { id, bytes } };
}

/** Not a test of randomness: it notices placeholders such as AAAA… and nothing else. */
export function isPlaceholder({ bytes }: SealingKey): boolean {
  return new Set(bytes).size < 8;
}

function repetitions(keys: readonly SealingKey[]): string[] {
  const faults: string[] = [];
  for (const [index, key] of keys.entries()) {
    const earlier = keys.slice(0, index);
    if (earlier.some(({ id }) => id === key.id)) faults.push(`the id ${key.id} occurs twice`);
    const twin = earlier.find(({ bytes }) => bytes.every((byte, at) => byte === key.bytes[at]));
    if (twin && twin.id !== key.id) faults.push(`${key.id} is the same key as ${twin.id}`);
  }
  return faults;
}

/** Both alphabets, with or without padding. Null: it is neither. */
export function decodeBase64(text: string): Uint8Array | null {
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) return null;
  try {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  } catch {
    return null; // a length that no bytes encode to
  }
}
