import type { Crypto } from "../core/ports.ts";
import { KEY_BYTES, TAG_BYTES } from "./cipher.ts";
import type { CipherKey, CipherSuite } from "./cipher.ts";
import { hex } from "./ids.ts";

/** Hashes, randomness and AES-256-GCM by Web Crypto, for runtimes without `node:crypto`. */
export function createWebCrypto(): Crypto & CipherSuite {
  const randomBytes = (count: number) => crypto.getRandomValues(new Uint8Array(count));
  return {
    sha256: async (text) => {
      const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
      return hex(new Uint8Array(digest));
    },
    randomText: (bytes) => base64url(randomBytes(bytes)),
    randomBytes,
    cipherKey: async (key) => {
      if (key.length !== KEY_BYTES) throw new Error(`an AES-256 key has ${KEY_BYTES} bytes`);
      return cipherKey(
        await crypto.subtle.importKey("raw", owned(key), "AES-GCM", false, ["encrypt", "decrypt"]),
      );
    },
  };
}

function cipherKey(key: CryptoKey): CipherKey {
  const algorithm = (nonce: Uint8Array, aad: Uint8Array) => ({
    name: "AES-GCM",
    iv: owned(nonce),
    additionalData: owned(aad),
    tagLength: TAG_BYTES * 8,
  });
  return {
    seal: async (nonce, plain, aad) =>
      new Uint8Array(await crypto.subtle.encrypt(algorithm(nonce, aad), key, owned(plain))),
    open: async (nonce, sealed, aad) => {
      try {
        return new Uint8Array(await crypto.subtle.decrypt(algorithm(nonce, aad), key, owned(sealed)));
      } catch (error) {
        // Web Crypto's word for a tag that does not fit.
        if (error instanceof DOMException && error.name === "OperationError") return null;
        throw error;
      }
    },
  };
}

// Web Crypto takes no view of a SharedArrayBuffer, which a plain `Uint8Array` may be to the compiler.
export function owned(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

export function base64url(bytes: Uint8Array): string {
  const text = btoa(String.fromCharCode(...bytes));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
