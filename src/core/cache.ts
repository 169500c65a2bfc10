/**
 * A bounded memory of things that are dear to make: the one used longest ago leaves first, and each leaves when its
 * time is over. Made in a door's composition and owned there; holds results, never rows (DESIGN 13).
 */
export type Cache<V> = {
  get: (key: string) => V | undefined;
  set: (key: string, value: V, ttlMs: number) => void;
  delete: (key: string) => void;
};

export function createCache<V>(options: { max: number; now: () => number }): Cache<V> {
  const entries = new Map<string, { value: V; until: number }>();
  return {
    get: (key) => {
      const entry = entries.get(key);
      if (!entry) return undefined;
      entries.delete(key);
      if (entry.until <= options.now()) return undefined;
      entries.set(key, entry);
      return entry.value;
    },
    set: (key, value, ttlMs) => {
      entries.delete(key);
      entries.set(key, { value, until: options.now() + ttlMs });
      if (entries.size <= options.max) return;
      const oldest = entries.keys().next();
      if (!oldest.done) entries.delete(oldest.value);
    },
    delete: (key) => {
      entries.delete(key);
    },
  };
}
