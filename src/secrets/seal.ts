import { BrokerError } from "../core/errors.ts";
import type { Sealer } from "../core/ports.ts";
import { NONCE_BYTES, TAG_BYTES } from "./cipher.ts";
import type { CipherKey, CipherSuite } from "./cipher.ts";
import { KEY_ID } from "./keyring.ts";
import type { Keyring, SealingKey } from "./keyring.ts";
import { type Keys, keysOf } from "./keys.ts";

/**
 * Sealed boxes: AES-256-GCM under the newest key, opened with the key that the box names.
 *
 *     version 1 byte · id length 1 byte · key id · nonce 12 bytes · ciphertext · tag 16 bytes
 *
 * What is authenticated beside the text: the box's own header and the caller's `aad`, so that neither the key's name
 * nor the place can be changed. Nonces are random: a key may seal 2^32 boxes before it must be replaced
 * (NIST SP 800-38D, 8.3).
 *
 * `open` throws `unavailable`; for a key that the keyring lacks, after another look at it, the message names it.
 */
export function createSealer({ keyring, suite }: { keyring: Keyring | Keys; suite: CipherSuite }): Sealer {
  const keys = keysOf(keyring);
  // By the key itself: what left the keyring leaves this, too.
  const prepared = new WeakMap<SealingKey, CipherKey | Promise<CipherKey>>();
  const cipherOf = (key: SealingKey) => {
    const cipher = prepared.get(key) ?? suite.cipherKey(key.bytes);
    prepared.set(key, cipher);
    return cipher;
  };
  const keyNamed = async (id: string) => {
    const isNamed = (key: SealingKey) => key.id === id;
    const known = (await keys.current()).find(isNamed);
    if (known) return known;
    const { keyring: ring, isSure } = await keys.another("box");
    const found = ring.find(isNamed);
    if (found) return found;
    throw unopened(
      `the keyring has no key "${id}", which must be put back (docs/keys.md)`,
      isSure ? {} : { passing: true },
    );
  };
  return {
    seal: async (plain, aad) => {
      const newest = await keys.newest();
      const key = await cipherOf(newest);
      const header = headerFor(newest.id);
      const nonce = suite.randomBytes(NONCE_BYTES);
      return joined(header, nonce, await key.seal(nonce, encoder.encode(plain), bound(header, aad)));
    },
    open: async (box, aad) => {
      if (box[0] !== VERSION) throw unopened("it is damaged or of another version");
      const parts = takeApart(box);
      if (!parts) throw unopened("it is damaged");
      const key = await cipherOf(await keyNamed(parts.keyId));
      const plain = await key.open(parts.nonce, parts.sealed, bound(parts.header, aad));
      if (!plain) throw unopened("it is damaged or belongs to another place");
      return decoder.decode(plain);
    },
  };
}

const VERSION = 1;
const encoder = new TextEncoder();
// Without ignoreBOM a text that begins with U+FEFF would come back without it.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function unopened(why: string, more: { passing?: true } = {}): BrokerError<"unavailable"> {
  return new BrokerError("unavailable", { what: `a sealed value cannot be opened: ${why}`, ...more });
}

function headerFor(keyId: string): Uint8Array {
  return joined(Uint8Array.of(VERSION, keyId.length), encoder.encode(keyId));
}

type Box = { header: Uint8Array; keyId: string; nonce: Uint8Array; sealed: Uint8Array };

function takeApart(box: Uint8Array): Box | null {
  const idLength = box[1];
  if (idLength === undefined) return null;
  const headerEnd = 2 + idLength;
  const nonceEnd = headerEnd + NONCE_BYTES;
  const keyId = keyIdOf(box);
  if (keyId === null || box.length < nonceEnd + TAG_BYTES) return null;
  return {
    header: box.subarray(0, headerEnd),
    keyId,
    nonce: box.subarray(headerEnd, nonceEnd),
    sealed: box.subarray(nonceEnd),
  };
}

/** The id of the key that a box names, of its first bytes. Null: it is no box. */
export function keyIdOf(start: Uint8Array): string | null {
  const idLength = start[1];
  if (start[0] !== VERSION || idLength === undefined || start.length < 2 + idLength) return null;
  const keyId = decoder.decode(start.subarray(2, 2 + idLength));
  return KEY_ID.test(keyId) ? keyId : null;
}

// The header has a length of its own, so no two pairs of header and place give the same bytes.
function bound(header: Uint8Array, aad: string): Uint8Array {
  return joined(header, encoder.encode(aad));
}

function joined(...parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
