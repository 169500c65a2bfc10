import type { Json } from "./json.ts";
import type { World } from "./ports.ts";

/** Who of all replicas does a work that is done by one at a time. A lease is by name, and ends by itself. */
export type Leases = {
  /**
   * Takes the lease if nobody has it at `now`, and gives the note that was kept last. Of any number that take it at once exactly
   * one has it. Null: another one has it.
   */
  take: (lease: Lease & { now: number }) => Promise<{ note: Json } | null>;
  /** Goes on, with another note. False: it has ended, and somebody else has taken it. */
  keep: (lease: Lease & { note: Json }) => Promise<boolean>;
  /** Gives it back; the note stays. Nothing happens when it is somebody else's by now. */
  release: (lease: Omit<Lease, "until">) => Promise<void>;
};

/** `until`: when its holder counts as dead. */
export type Lease = { name: string; holder: string; until: number };

/**
 * What a holder goes by: the note of whoever was at it last, and the way to keep another one, at least twice a minute. Once `keep`
 * has said false, somebody else is at it, and the holder stops.
 */
export type Held = { note: Json; keep: (note: Json) => Promise<boolean> };

/**
 * Does the work if no other replica is at it. Null: one is. Whoever hangs loses the lease after a minute, and may then be at work
 * beside another: whatever is done under a lease must bear that.
 */
export async function alone<T>(
  { store, clock, newId }: Pick<World, "clock" | "newId"> & { store: { upkeep: { leases: Leases } } },
  name: string,
  work: (held: Held) => Promise<T>,
): Promise<T | null> {
  const { leases } = store.upkeep;
  const holder = newId("w");
  const until = () => clock.now() + LEASE_MS;
  const taken = await leases.take({ name, holder, until: until(), now: clock.now() });
  if (!taken) return null;
  try {
    return await work({
      note: taken.note,
      keep: (note) => leases.keep({ name, holder, until: until(), note }),
    });
  } finally {
    await leases.release({ name, holder });
  }
}

const LEASE_MS = 60_000;
