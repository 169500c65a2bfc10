import type { AuditEntry } from "./audit.ts";
import type { Context } from "./context.ts";
import { type Owner, type Viewer, viewer } from "./identity.ts";
import type { Id, ResponseId } from "./ids.ts";
import type { World } from "./ports.ts";
import type { Response } from "./request.ts";

/**
 * A response that is made without its caller. `queued` until somebody has begun, `running` until it is stored, then `done`;
 * `lost`: it broke off too often and could not even be stored as failed. Past `leaseUntil` whoever ran it counts as dead.
 */
export type BackgroundWork = {
  id: ResponseId;
  project: string;
  owner: Owner;
  status: "queued" | "running" | "done" | "lost";
  /** As it begins. */
  response: Response;
  /** Who has it: the fence of its writes. Null: nobody. */
  run: Id<"w"> | null;
  leaseUntil: number;
  /** How often it was taken up and not given back. */
  attempts: number;
  cancelledAt: number | null;
  /** How many batches there are of what was said. */
  batches: number;
  /** Their size together, sealed. */
  bytes: number;
  createdAt: number;
  /** When it is swept, if it is over by then. */
  expiresAt: number;
};

export type BackgroundState = Pick<BackgroundWork, "status" | "batches" | "leaseUntil">;

export type Due = Pick<BackgroundWork, "project" | "id" | "status" | "createdAt">;

/** One run's hold of a work: every write names it, and comes to nothing once somebody else has taken the work up. */
export type Hold = { project: string; id: ResponseId; run: Id<"w"> };

export type Background = {
  /** `sealed`: what is to be done. False: of those that are not over the project, or the owner's principal, has `most`. */
  begin: (
    work: Omit<BackgroundWork, "attempts" | "cancelledAt" | "batches" | "bytes" | "status">,
    sealed: Uint8Array,
    most: { ofProject: number; ofCaller: number },
  ) => Promise<boolean>;
  get: (project: string, id: string, viewer: Viewer) => Promise<BackgroundWork | null>;
  /** Without its response, which may be large: for who looks again and again, and was shown by `get` before. */
  state: (project: string, id: ResponseId) => Promise<BackgroundState | null>;
  /** Some that nobody has, of all projects, those that waited longest first. */
  due: (now: number, limit: number) => Promise<Due[]>;
  /** Takes up what nobody has. Of any number of racers exactly one receives it, with what is to be done. */
  claim: (
    hold: Hold & { leaseUntil: number; now: number },
  ) => Promise<(BackgroundWork & { sealed: Uint8Array }) | null>;
  /**
   * Adds a batch if `seq` are there, and renews the lease. `cancelled`: somebody wants it to end. Null: the work is not this
   * run's any more, which must then do nothing.
   */
  append: (
    hold: Hold & { seq: number; sealed: Uint8Array; leaseUntil: number },
  ) => Promise<{ cancelled: boolean } | null>;
  /** The run goes on; as `append` without a batch. */
  renew: (hold: Hold & { leaseUntil: number }) => Promise<{ cancelled: boolean } | null>;
  /** Batches from `from` (inclusive), in order. */
  batches: (
    project: string,
    id: ResponseId,
    from: number,
    limit: number,
  ) => Promise<{ seq: number; sealed: Uint8Array }[]>;
  /** Anybody may take it up from `at` on. `counts`: whether this was an attempt. */
  giveBack: (hold: Hold & { at: number; counts: boolean }) => Promise<void>;
  /** It is over. False: it was not this run's. */
  finish: (hold: Hold & { status: "done" | "lost"; expiresAt: number }) => Promise<boolean>;
  /** Whoever runs it sees that it shall end. False: there is none that the viewer may see, it is over, or it was said before. */
  cancel: (
    query: { project: string; id: string; viewer: Viewer; at: number },
    audit: AuditEntry[],
  ) => Promise<boolean>;
  /** With its batches. */
  delete: (project: string, id: string, viewer: Viewer) => Promise<void>;
  /** Removes what is over and has expired, `limit` of them at most; gives how many. */
  sweep: (now: number, limit: number) => Promise<number>;
};

export const backgroundAad = (project: string, id: ResponseId, part: "plan" | number) =>
  JSON.stringify(["background", project, id, part]);

/** What nobody has begun by then is not begun any more: whoever asked for it has stopped waiting. */
const MAX_WAIT_MS = 24 * 60 * 60 * 1000;

export const waitedTooLong = ({ createdAt }: Pick<BackgroundWork, "createdAt">, now: number) =>
  now - createdAt >= MAX_WAIT_MS;

/** Whether a response that is not stored is one that the caller may see, and that is not over. */
export async function isUnderWay(
  { store }: Pick<World, "store">,
  { caller, user, project }: Pick<Context, "caller" | "user" | "project">,
  id: string,
): Promise<boolean> {
  const work = await store.background.get(project.name, id, viewer(caller, user));
  return work !== null && !isOver(work);
}

export const isOver = ({ status }: Pick<BackgroundWork, "status">) => status === "done" || status === "lost";
