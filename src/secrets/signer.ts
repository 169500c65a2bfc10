import type { Signer } from "../core/ports.ts";
import { base64url, owned } from "./crypto.web.ts";
import type { Keyring, SealingKey } from "./keyring.ts";
import { type Keys, keysOf } from "./keys.ts";

/**
 * Proofs that a text is ours: HMAC-SHA256 under one key for each of the keyring's, derived by HKDF-SHA256 (RFC 5869), so
 * that a proof tells nothing of the key that seals. The newest signs and all of them verify: what was signed before a
 * rotation stays ours until its key is taken out.
 *
 * A proof does not name its key: one that fits none of them may be of a key that another replica has seen first, and is
 * compared again after another look.
 *
 * Web Crypto alone, for every runtime.
 */
export function createSigner(keyring: Keyring | Keys): Signer {
  const keys = keysOf(keyring);
  const derived = new WeakMap<SealingKey, Promise<CryptoKey>>();
  const keyOf = (key: SealingKey) => {
    const known = derived.get(key) ?? deriveKey(key);
    derived.set(key, known);
    return known;
  };
  const macOf = async (key: SealingKey, text: Uint8Array<ArrayBuffer>) =>
    base64url(new Uint8Array(await crypto.subtle.sign("HMAC", await keyOf(key), text)));
  const fitsAny = async (ring: readonly SealingKey[], text: Uint8Array<ArrayBuffer>, mac: string) => {
    const macs = await Promise.all(ring.map((key) => macOf(key, text)));
    // Every key is compared, so that the time says neither which one fits nor how much of it.
    return macs.map((own) => isSame(own, mac)).includes(true);
  };

  return {
    sign: async (purpose, text) => macOf((await keys.current())[0], joined(purpose, text)),
    isOurs: async (purpose, text, mac) => {
      const signed = joined(purpose, text);
      const ring = await keys.current();
      if (await fitsAny(ring, signed, mac)) return true;
      const others = (await keys.another("proof")).keyring.filter((key) => !ring.includes(key));
      return fitsAny(others, signed, mac);
    },
  };
}

async function deriveKey({ bytes }: SealingKey): Promise<CryptoKey> {
  const secret = await crypto.subtle.importKey("raw", owned(bytes), "HKDF", false, ["deriveKey"]);
  const how = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: encoder.encode(LABEL) };
  const hmac = { name: "HMAC", hash: "SHA-256", length: 256 };
  return crypto.subtle.deriveKey(how, secret, hmac, false, ["sign"]);
}

/** As JSON, in which no purpose can run into its text. */
function joined(purpose: string, text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(JSON.stringify([purpose, text]));
}

/** Character by character to the end. That a length is wrong is no secret. */
function isSame(own: string, given: string): boolean {
  if (own.length !== given.length) return false;
  let difference = 0;
  for (let at = 0; at < own.length; at++) difference |= own.charCodeAt(at) ^ given.charCodeAt(at);
  return difference === 0;
}

const encoder = new TextEncoder();
/** Never changes: every proof of before would be nobody's. */
const LABEL = "consentry signer 1";
