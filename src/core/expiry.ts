import type { Owner } from "./identity.ts";
import type { ConversationId } from "./conversations.ts";
import type { ResponseId } from "./ids.ts";

/** Ends what has ended by itself. Each changes at most `limit` rows of all projects, and gives how many: fewer mean that there are no more. */
export type Expiry = {
  /** `open` or `authorizing`, and neither link nor state can be used any more at `now` → `expired`. */
  consents: (now: number, limit: number) => Promise<number>;
  /** Deletes consents that ended before then. */
  endedConsents: (before: number, limit: number) => Promise<number>;
  /** `pending` past its time → `expired`. */
  heldCalls: (now: number, limit: number) => Promise<number>;
  /** `dispatched` with a lease that ended before `now` → `unknown`. */
  dispatchedCalls: (now: number, limit: number) => Promise<number>;
  handles: (now: number, limit: number) => Promise<number>;
  idempotency: (now: number, limit: number) => Promise<number>;
  /** Deletes redirect ids whose owners were deleted before then. */
  redirects: (before: number, limit: number) => Promise<number>;
};

/** `isInConversation`: it goes with that, and not before. */
export type RetainedResponse = { id: ResponseId; owner: Owner; createdAt: number; isInConversation: boolean };
/** `usedAt`: when the last response in it was made; else, when it was. */
export type RetainedConversation = { id: ConversationId; owner: Owner; createdAt: number; usedAt: number };
export type MadeBefore = { project: string; before: number; after: TimePoint | null };
export type TimePoint = { createdAt: number; id: string };

/** What a project keeps for a while only. */
export type Retention = {
  /** Those that were made before then, the oldest first, from behind `after`. */
  responses: (of: MadeBefore, limit: number) => Promise<RetainedResponse[]>;
  conversations: (of: MadeBefore, limit: number) => Promise<RetainedConversation[]>;
  /**
   * Deletes held calls that were made before then, have ended, and that no item speaks of any more. One that is approved waits to be run,
   * and has ended if that was decided before `decidedBefore`. Looks at `limit` rows from behind `after`, and gives where it has come to.
   * `next` null: there are no more.
   */
  heldCalls: (
    of: MadeBefore & { decidedBefore: number },
    limit: number,
  ) => Promise<{ deleted: number; next: TimePoint | null }>;
};
