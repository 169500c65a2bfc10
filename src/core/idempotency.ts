import type { Id, ResponseId } from "./ids.ts";

/**
 * What became of a request that came with an `Idempotency-Key`. `running` until `leaseUntil`: past it the one that ran it
 * counts as dead, and whether something was done is told by the response, if there is one.
 */
export type IdempotentRequest = {
  project: string;
  /** Whose key, and which: a hash of principal, user and key. */
  slot: string;
  /** A proof of ours over the body, which says nothing about it. */
  digest: string;
  /** The attempt; the fence of its writes. */
  run: Id<"w">;
  status: "running" | "done";
  /** Set before anything is done. */
  responseId: ResponseId | null;
  leaseUntil: number;
  expiresAt: number;
  /** The answer, where no stored response has it (`store: false`), sealed for `answerAad`. */
  sealed: Uint8Array | null;
};

export type Idempotency = {
  /**
   * Begins a request if its slot is free: nobody's, expired, or of an attempt whose lease ended before it had a response, so
   * that nothing was done. Of any number that begin at once exactly one does.
   */
  begin: (
    request: Omit<IdempotentRequest, "status" | "responseId" | "sealed"> & { now: number },
  ) => Promise<boolean>;
  /** Null: there is none, or it has expired. */
  get: (project: string, slot: string, now: number) => Promise<IdempotentRequest | null>;
  /** The attempt goes on. False: it is not its attempt's any more, which must then do nothing. */
  renew: (attempt: Attempt & { leaseUntil: number; responseId: ResponseId }) => Promise<boolean>;
  /** `running` → `done`. False: it was not this attempt's. */
  finish: (attempt: Attempt & { sealed: Uint8Array | null }) => Promise<boolean>;
  /** The slot is free again: nothing was done. */
  release: (attempt: Attempt) => Promise<void>;
};

export type Attempt = Pick<IdempotentRequest, "project" | "slot" | "run">;

export const answerAad = ({ project, slot, run }: Attempt) => JSON.stringify(["answer", project, slot, run]);
