import { createCipheriv, createDecipheriv, createSecretKey, hash, randomBytes } from "node:crypto";
import type { KeyObject } from "node:crypto";
import type { Crypto } from "../core/ports.ts";
import { KEY_BYTES, TAG_BYTES } from "./cipher.ts";
import type { CipherKey, CipherSuite } from "./cipher.ts";

/** Hashes, randomness and AES-256-GCM by `node:crypto`, all synchronous: no trip through the thread pool. */
export function createNodeCrypto(): Crypto & CipherSuite {
  return {
    sha256: (text) => hash("sha256", text, "hex"),
    randomText: (bytes) => randomBytes(bytes).toString("base64url"),
    randomBytes: (count) => randomBytes(count),
    cipherKey: (key) => {
      if (key.length !== KEY_BYTES) throw new Error(`an AES-256 key has ${KEY_BYTES} bytes`);
      return cipherKey(createSecretKey(key));
    },
  };
}

function cipherKey(key: KeyObject): CipherKey {
  return {
    seal: (nonce, plain, aad) => {
      const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES }).setAAD(aad);
      return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    },
    open: (nonce, sealed, aad) => {
      const textEnd = sealed.length - TAG_BYTES;
      const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAAD(aad).setAuthTag(sealed.subarray(textEnd));
      const plain = decipher.update(sealed.subarray(0, textEnd));
      try {
        return Buffer.concat([plain, decipher.final()]);
      } catch {
        // With a tag of the right length, the only thing that final() has to say is that it does not fit.
        return null;
      }
    },
  };
}
