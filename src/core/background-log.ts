import { backgroundAad, type Hold } from "./background.ts";
import { isRefusal } from "./errors.ts";
import type { Item } from "./items.ts";
import type { World } from "./ports.ts";
import type { TurnEvent } from "./request.ts";
import { withLinks, withoutLinks } from "./thread.ts";
import type { Entry, Mark } from "./turn-journal.ts";

/** What is said is written together, at the latest after so long; what must be kept before something is done is written at once. */
const FLUSH_MS = 60;
/** So long a run that says nothing more counts as alive. It is renewed a few times in it. */
export const LEASE_MS = 30_000;
/** So often a store that is away is asked. */
const RETRY_MS = 500;
/** What is kept of one response: more is not a response any more. */
const MAX_BYTES = 64 * 1024 * 1024;
const MAX_BATCHES = 50_000;

export type Log = {
  event: (event: TurnEvent) => void;
  note: (mark: Mark) => void;
  /** Resolves when it is kept with all before it. False: the work is somebody else's. */
  keep: (mark: Mark) => Promise<boolean>;
  /** Resolves when all that was said is kept, or the work is somebody else's. */
  flush: () => Promise<void>;
  /** There is more than may be kept. */
  isFull: () => boolean;
};

type Kept = { cancelled: boolean; leaseUntil: number };

type Keeping = {
  lost: () => void;
  cancelled: () => void;
  kept: (leaseUntil: number) => void;
  keptUntil: () => number;
};

/**
 * Writes what a run says and does, in order, in sealed batches. Each is one compare-and-swap on the run: when that fails, or
 * the store is away until the lease is over (`keptUntil`), `lost` is called and nothing more is written. `cancelled` is called
 * when somebody wants the work to end, `kept` after every batch, with the end of the lease that came with it.
 */
export function createLog(
  world: World,
  { run, project, id, batches, bytes }: Hold & { batches: number; bytes: number },
  { lost, cancelled, kept, keptUntil }: Keeping,
): Log {
  let pending: Entry[] = [];
  let seq = batches;
  let size = bytes;
  let isLost = false;
  let writing: Promise<void> | null = null;
  let isDue = false;

  async function write(): Promise<void> {
    while (pending.length > 0 && !isLost) {
      const entries = pending;
      pending = [];
      const sealed = await world.sealer.seal(
        JSON.stringify(shortened(entries)),
        backgroundAad(project, id, seq),
      );
      const answer = await put(sealed);
      if (!answer) return lose();
      seq++;
      size += sealed.length;
      if (answer.cancelled) cancelled();
      kept(answer.leaseUntil);
    }
  }

  /** A store that is away for a moment is waited for, as long as the work is surely this run's. */
  async function put(sealed: Uint8Array): Promise<Kept | null> {
    const { clock, store } = world;
    const until = keptUntil();
    for (let tries = 1; ; tries++) {
      try {
        const leaseUntil = clock.now() + LEASE_MS;
        const answer = await store.background.append({ project, id, run, seq, sealed, leaseUntil });
        if (answer || tries === 1) return answer && { ...answer, leaseUntil };
        // The work is still this run's, who alone adds to it: then the batch is there, and its answer was lost.
        const still = await store.background.renew({ project, id, run, leaseUntil });
        return still && { ...still, leaseUntil };
      } catch (err) {
        if (!isRefusal(err, "unavailable") || clock.now() >= until || isLost) throw err;
        world.log("warn", "background_not_kept", { responseId: id, err });
        await clock.sleep(RETRY_MS);
      }
    }
  }

  function lose(): void {
    isLost = true;
    lost();
  }

  function flush(): Promise<void> {
    writing ??= write()
      .catch((err: unknown) => {
        world.log("warn", "background_not_kept", { responseId: id, err });
        lose();
      })
      .finally(() => {
        writing = null;
      });
    return writing;
  }

  async function flushAll(): Promise<void> {
    while (pending.length > 0 && !isLost) await flush();
    await writing;
  }

  function add(entry: Entry): void {
    pending.push(entry);
    if (isDue) return;
    isDue = true;
    void world.clock.sleep(FLUSH_MS).then(() => {
      isDue = false;
      return flush();
    });
  }

  return {
    event: (event) => {
      add({ event });
      if (event.kind === "item_done" && event.item.kind === "mcp_call") void flush();
    },
    note: (mark) => add({ mark }),
    keep: async (mark) => {
      pending.push({ mark });
      await flushAll();
      return !isLost;
    },
    flush: flushAll,
    isFull: () => size > MAX_BYTES || seq > MAX_BATCHES,
  };
}

/** The entries of a batch as they were said, links made anew. */
export async function openBatch(
  world: World,
  { project, id }: Pick<Hold, "project" | "id">,
  { seq, sealed }: { seq: number; sealed: Uint8Array },
): Promise<Entry[]> {
  // Written by the log above, opened under its own place.
  const entries = JSON.parse(await world.sealer.open(sealed, backgroundAad(project, id, seq))) as Entry[];
  return Promise.all(
    entries.map(async (entry): Promise<Entry> => {
      if ("notice" in entry) {
        const { index, item } = entry.notice;
        const linked = await withLinks(world, item);
        return linked.kind === "consent_notice" ? { notice: { index, item: linked } } : entry;
      }
      if ("mark" in entry || !hasItem(entry.event)) return entry;
      const { event } = entry;
      if (event.kind !== "consent_requested")
        return { event: { ...event, item: await withLinks(world, event.item) } };
      const item = await withLinks(world, event.item);
      return item.kind === "oauth_consent_request" ? { event: { ...event, item } } : entry;
    }),
  );
}

type WithItem = Extract<TurnEvent, { item: Item }>;

const hasItem = (event: TurnEvent): event is WithItem =>
  event.kind === "item_added" || event.kind === "item_done" || event.kind === "consent_requested";

/** The same with pieces of one text put together, and without links. */
function shortened(entries: Entry[]): Entry[] {
  const notices = new Map<number, Entry>();
  for (const entry of entries) {
    if (!("event" in entry) || entry.event.kind !== "item_done") continue;
    const { index, item } = entry.event;
    const plain = withoutLinks(item);
    if (plain.kind === "consent_notice") notices.set(index, { notice: { index, item: plain } });
  }
  const short: Entry[] = [];
  for (const entry of entries) {
    if (!("event" in entry)) {
      short.push(entry);
      continue;
    }
    const { event } = entry;
    // A notice is said in one go, and so stands in one batch.
    const notice = "index" in event ? notices.get(event.index) : undefined;
    if (notice) {
      if (event.kind === "item_done") short.push(notice);
      continue;
    }
    if (!hasItem(event)) {
      if (!joined(short.at(-1), event)) short.push({ event: { ...event } });
      continue;
    }
    if (event.kind === "consent_requested")
      short.push({ event: { ...event, item: { ...event.item, link: "" } } });
    else short.push({ event: { ...event, item: withoutLinks(event.item) } });
  }
  return short;
}

/** Whether the event was put to the one before it. */
function joined(last: Entry | undefined, event: TurnEvent): boolean {
  if (!last || !("event" in last)) return false;
  const before = last.event;
  if (before.kind === "text_delta" && event.kind === "text_delta") {
    const isSame = before.itemId === event.itemId && before.part === event.part && before.of === event.of;
    if (!isSame) return false;
    before.delta += event.delta;
    if (event.logprobs) before.logprobs = [...(before.logprobs ?? []), ...event.logprobs];
    return true;
  }
  if (before.kind === "reasoning_delta" && event.kind === "reasoning_delta") {
    const isSame = before.itemId === event.itemId && before.part === event.part && before.of === event.of;
    if (isSame) before.text += event.text;
    return isSame;
  }
  return false;
}
