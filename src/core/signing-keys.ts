/** What a key signs for: issuers have keys of their own, so that no token of one passes for another's (DESIGN 11). */
export type SigningPurpose = "workload";

/**
 * A key that tokens are signed with, as a row. It signs from `notBefore` until its successor does, which is the next
 * `seq`; its end is that successor's beginning and is written nowhere else, so that the two cannot disagree. Nothing of it
 * is believed before the box is open: the public half is derived from the private one.
 */
export type SigningKey = {
  purpose: SigningPurpose;
  /** 1 for the first, one more for each successor. */
  seq: number;
  /** The thumbprint of the public key (RFC 7638). */
  kid: string;
  /** The private JWK, sealed for `signingKeyAad`. */
  sealed: Uint8Array;
  createdAt: number;
  /** From when it signs. Published before that, so that those who check have it when they meet it. */
  notBefore: number;
};

export type SigningKeys = {
  /** All keys of a purpose, in order of `seq`. */
  list: (purpose: SigningPurpose) => Promise<SigningKey[]>;
  /** Of any number of racers for one `seq` exactly one is kept and receives true; the others change nothing. */
  insert: (key: SigningKey) => Promise<boolean>;
  /** Deletes those that have a successor which signs since `supersededAt` or earlier, in one statement. Gives their `kid`s. */
  sweep: (purpose: SigningPurpose, supersededAt: number) => Promise<string[]>;
};

export const signingKeyAad = ({ purpose, seq, kid }: Pick<SigningKey, "purpose" | "seq" | "kid">) =>
  JSON.stringify(["signing_key", purpose, seq, kid]);
