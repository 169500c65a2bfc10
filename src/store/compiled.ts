import { Column, is, Param, Placeholder, SQL } from "drizzle-orm";
import { PreparedQuery } from "drizzle-orm/better-sqlite3";
import type { Values } from "./engine.ts";

/**
 * A statement that Drizzle has prepared, as what takes least to run. Drizzle finds out anew, for each value of each run, what sort
 * of thing it is and where it belongs, which takes longer than SQLite does; here that is settled once.
 *
 * Null: it has a form that is not known here, and Drizzle runs it itself. The contract suite says that both give the same.
 */
export function compile(prepared: unknown): ((values: Values) => unknown) | null {
  if (!is(prepared, PreparedQuery)) return null;
  // What Drizzle's own `run` and `all` read, and TypeScript calls private.
  const { stmt, query, fields, executeMethod, customResultMapper, joinsNotNullableMap } =
    prepared as unknown as Prepared;
  // An outer join may leave a whole group out.
  if (customResultMapper || Object.values(joinsNotNullableMap ?? {}).includes(false)) return null;
  const bind = binder(query.params);
  if (executeMethod === "run") return (values) => stmt.run(...bind(values));
  const row = fields && mapper(fields);
  if (executeMethod !== "all" || !row) return null;
  const raw = stmt.raw();
  return (values) => raw.all(...bind(values)).map(row);
}

type Prepared = {
  stmt: {
    run: (...params: unknown[]) => unknown;
    raw: () => { all: (...params: unknown[]) => unknown[][] };
  };
  query: { params: unknown[] };
  fields?: Field[];
  executeMethod: "run" | "all" | "get" | "values";
  customResultMapper?: unknown;
  joinsNotNullableMap?: Record<string, boolean>;
};
type Field = { path: string[]; field: unknown };

function binder(params: unknown[]): (values: Values) => unknown[] {
  const readers = params.map((param): ((values: Values) => unknown) => {
    if (is(param, Placeholder)) return named(param.name);
    if (!is(param, Param) || !is(param.value, Placeholder)) return () => param;
    const { encoder } = param;
    const value = named(param.value.name);
    return (values) => encoder.mapToDriverValue(value(values));
  });
  return (values) => readers.map((read) => read(values));
}

function named(name: string): (values: Values) => unknown {
  return (values) => {
    const value = values[name];
    if (value === undefined && !(name in values)) throw new Error(`a statement has no value for ${name}`);
    return value;
  };
}

type Cell = { group: string | null; name: string; decode: ((value: unknown) => unknown) | null };

/** Rows as the selection names them: flat, or one group deep. Null for other forms. */
function mapper(fields: Field[]): ((row: unknown[]) => Values) | null {
  const cells = fields.map(({ path, field }): Cell | null => {
    const [first, second, third] = path;
    const decode = decoderOf(field);
    if (first === undefined || third !== undefined || decode === undefined) return null;
    return second === undefined
      ? { group: null, name: first, decode }
      : { group: first, name: second, decode };
  });
  if (!cells.every((cell) => cell !== null)) return null;
  return (row) => {
    const whole: Values = {};
    let groupName: string | null = null;
    let group = whole;
    for (const [at, cell] of cells.entries()) {
      if (cell.group !== groupName) {
        groupName = cell.group;
        group = groupName === null ? whole : ((whole[groupName] ??= {}) as Values);
      }
      const value = row[at];
      group[cell.name] = value === null || !cell.decode ? value : cell.decode(value);
    }
    return whole;
  };
}

/** Null: the value is as the driver gives it. Undefined: not known. */
function decoderOf(field: unknown): Cell["decode"] | undefined {
  const from = is(field, SQL)
    ? (field as unknown as { decoder: Pick<Column, "mapFromDriverValue"> }).decoder
    : field;
  if (is(from, Column) && from.mapFromDriverValue === Column.prototype.mapFromDriverValue) return null;
  if (is(field, SQL) || is(field, Column)) {
    const decoder = from as Pick<Column, "mapFromDriverValue">;
    return (value) => decoder.mapFromDriverValue(value);
  }
  return undefined;
}
