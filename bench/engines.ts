export type Engine = "sqlite" | "postgres" | "d1";

/** In the order of the tables: what the others are compared with comes first. */
export const ENGINES: readonly Engine[] = ["sqlite", "postgres", "d1"];

export const ENGINE_NAMES: Record<Engine, string> = {
  sqlite: "SQLite",
  postgres: "PostgreSQL",
  d1: "D1 in workerd",
};

/** What stands behind a balancer: brokers on one database. */
export type Setup = { engine: Engine; replicas: number };

/** Reads `all`, or names with commas between. Each comes once, in the order of the tables. Throws at what is none. */
export function enginesOf(text: string): Engine[] {
  const names = text.split(",").map((name) => name.trim());
  if (names.includes("all")) return [...ENGINES];
  const unknown = names.find((name) => !ENGINES.some((engine) => engine === name));
  if (unknown !== undefined) throw new Error(`--engines knows all, ${ENGINES.join(", ")}; not "${unknown}"`);
  return ENGINES.filter((engine) => names.includes(engine));
}

/** Reads whole numbers from 1 on with commas between; gives each once, in order. Throws at anything else. */
export function countsOf(option: string, text: string): number[] {
  const counts = text.split(",").map(Number);
  const isWrong = counts.some((count) => !Number.isSafeInteger(count) || count < 1);
  if (isWrong) throw new Error(`--${option} is numbers from 1 on, with commas between; not "${text}"`);
  return [...new Set(counts)].toSorted((a, b) => a - b);
}

/**
 * What can be set up: a SQLite file is one process's, and workerd here is one isolate, so that only PostgreSQL comes with each number of
 * replicas.
 */
export function setupsOf(engines: readonly Engine[], replicas: readonly number[]): Setup[] {
  return engines.flatMap((engine): Setup[] => {
    switch (engine) {
      case "sqlite":
      case "d1":
        return [{ engine, replicas: 1 }];
      case "postgres":
        return replicas.map((count) => ({ engine, replicas: count }));
    }
  });
}

export function titleOf({ engine, replicas }: Setup): string {
  return `${ENGINE_NAMES[engine]}, ${replicas} ${replicas === 1 ? "replica" : "replicas"}`;
}
