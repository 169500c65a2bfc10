import Database from "better-sqlite3";
import { drizzle } from "drizzle-orm/better-sqlite3";
import type { Db, Engine, Statement, Values } from "../../src/store/engine.ts";

// https://developers.cloudflare.com/d1/platform/limits/
const MAX_PARAMETERS = 100;
const MAX_VALUE_BYTES = 900_000;

/** An engine that refuses every statement that D1 would refuse for its size. */
export function withLimitsOfD1(engine: Engine): Engine {
  const db = drizzle(new Database(":memory:")) as unknown as Db;
  const check = (statement: Statement<unknown>, values: Values) => {
    const { params } = (statement(db) as unknown as { toSQL: () => { params: unknown[] } }).toSQL();
    if (params.length > MAX_PARAMETERS) throw new Error(`${params.length} parameters in a statement`);
    // Placeholders stand among the parameters; what they stand for is in the values.
    for (const value of [...params, ...Object.values(values)]) {
      if (!(value instanceof Uint8Array) && typeof value !== "string") continue;
      const size = Buffer.byteLength(value);
      if (size > MAX_VALUE_BYTES) throw new Error(`a value of ${size} bytes`);
    }
  };
  return {
    ...engine,
    run: async (statement, values = {}) => {
      check(statement, values);
      return engine.run(statement, values);
    },
    atomic: async (steps) => {
      for (const { statement, values } of steps) check(statement, values);
      return engine.atomic(steps);
    },
  };
}
