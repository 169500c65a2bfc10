/**
 * A bounded memory of things that are dear to make: of those used longest ago one leaves first, and each leaves when its
 * time is over. Made in a door's composition and owned there; holds results, never rows (DESIGN 13).
 */
export type Cache<V> = {
  get: (key: string) => V | undefined;
  /** `weight` counts against `maxWeight`; something heavier than all of it is not kept. */
  set: (key: string, value: V, options: { ttlMs: number; weight?: number }) => void;
};

export function createCache<V>(limits: { max: number; maxWeight?: number; now: () => number }): Cache<V> {
  const { max, maxWeight = Infinity, now } = limits;
  const entries = new Map<string, { value: V; until: number; weight: number; place: number }>();
  let total = 0;
  let places = 0;

  function drop(key: string): void {
    total -= entries.get(key)?.weight ?? 0;
    entries.delete(key);
  }

  return {
    get: (key) => {
      const entry = entries.get(key);
      if (!entry) return undefined;
      if (entry.until <= now()) {
        drop(key);
        return undefined;
      }
      // Read again, it is the newest. What is among the newer half stays where it is: every call reads a few entries, and moving
      // them costs more than reading.
      if (places - entry.place >= entries.size / 2) {
        entries.delete(key);
        entries.set(key, { ...entry, place: ++places });
      }
      return entry.value;
    },
    set: (key, value, { ttlMs, weight = 0 }) => {
      drop(key);
      if (weight > maxWeight) return;
      entries.set(key, { value, until: now() + ttlMs, weight, place: ++places });
      total += weight;
      for (const [oldest] of entries) {
        if (entries.size <= max && total <= maxWeight) return;
        drop(oldest);
      }
    },
  };
}
