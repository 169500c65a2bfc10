/**
 * One AES-256-GCM key, ready for use. `nonce` is 12 bytes and never used twice with a key; `sealed` is the ciphertext
 * with its 16-byte tag at the end; `aad` is authenticated but not stored.
 */
export type CipherKey = {
  seal: (nonce: Uint8Array, plain: Uint8Array, aad: Uint8Array) => Uint8Array | Promise<Uint8Array>;
  /** Null: the tag does not fit, so the text, the nonce or `aad` is not what was sealed, or the key is another. */
  open: (
    nonce: Uint8Array,
    sealed: Uint8Array,
    aad: Uint8Array,
  ) => Uint8Array | null | Promise<Uint8Array | null>;
};

/** What sealing needs of a runtime; `crypto.node.ts` and `crypto.web.ts` have it. */
export type CipherSuite = {
  randomBytes: (count: number) => Uint8Array;
  /** Throws a plain error unless `key` has 32 bytes. */
  cipherKey: (key: Uint8Array) => CipherKey | Promise<CipherKey>;
};

export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
