import * as z from "zod";
import { type Fault, invalid, isRefusal } from "../../core/errors.ts";
import { isJsonObject, type JsonObject } from "../../core/json.ts";
import { collect, MAX_FAULTS, refusal, under } from "./faults.ts";
import { nearMiss } from "./near-miss.ts";

/** What a body or a query must look like, and what it becomes. Unknown fields are ignored unless the shape is strict. */
export type Shape<T> = z.ZodType<T>;

/** Gives the value in the shape, or throws `invalid` with its faults, each under the caller's own spelling. */
export function read<T>(shape: Shape<T>, value: unknown): T {
  const result = shape.safeParse(value, { error: wording });
  if (result.success) return result.data;
  throw refusal(result.error.issues.flatMap(faultsOf));
}

/** Reads a value under the name that it has in the body. Throws `invalid`. */
export function readAt<T>(shape: Shape<T>, value: unknown, param: string): T {
  try {
    return read(shape, value);
  } catch (error) {
    if (!isRefusal(error, "invalid")) throw error;
    throw refusal(error.details.faults.map((fault) => ({ ...fault, param: under(param, fault.param) })));
  }
}

/**
 * A shape around a reader of ours that throws `invalid` with params relative to the value. `schema` is what OpenAPI
 * says about it.
 */
export function readWith<T>(reader: (value: unknown, param: string) => T, schema: JsonObject): Shape<T> {
  return z
    .unknown()
    .transform((value, context) => {
      try {
        return reader(value, "");
      } catch (error) {
        if (!isRefusal(error, "invalid")) throw error;
        for (const { param, message } of error.details.faults) {
          context.addIssue({ code: "custom", message, path: param === "" ? [] : [param] });
        }
        return z.NEVER;
      }
    })
    .meta(schema);
}

/**
 * An object of these fields alone: a misspelt one must not pass for one that is set, and the one that was probably meant is
 * told. `advice`: what to say instead of a name that stands there by another mistake; null: nothing special.
 */
export function only<S extends z.ZodRawShape>(
  fields: S,
  advice: (name: string) => string | null = () => null,
) {
  const names = Object.keys(fields);
  const sentence = (name: string) => `${UNKNOWN}${adviceOn(name, advice, names)}`;
  return z.strictObject(fields, {
    // One issue stands for all unknown names: a line for each, which `faultsOf` takes apart.
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? issue.keys.slice(0, MAX_FAULTS).map(sentence).join("\n")
        : undefined,
  });
}

function adviceOn(name: string, advice: (name: string) => string | null, names: readonly string[]): string {
  const special = advice(name);
  if (special !== null) return `; ${special}`;
  const meant = nearMiss(name, names);
  return meant === null ? "" : `; did you mean ${meant}?`;
}

const UNKNOWN = "is not known here";

/** A body of fields: where there is none at all, each field that must be there is named. */
export function bodyOf<T>(shape: Shape<T>): Shape<T> {
  return readWith((value) => read(shape, value === undefined ? {} : value), schemaOf(shape));
}

/** A JSON object that is kept as it is. */
export const jsonObject = z
  .custom<JsonObject>(isJsonObject, "must be an object")
  .meta({ type: "object", additionalProperties: true });

/** An array whose length is judged before its entries: zod spreads the faults of an array onto the stack. */
export function arrayOf<T>(shape: Shape<T>, most: number): Shape<T[]> {
  const items = schemaOf(shape);
  return z.array(z.unknown()).max(most).pipe(z.array(shape)).meta({ type: "array", items, maxItems: most });
}

/** An object of any names. Unlike zod's record it keeps `__proto__`, a name like others, for whoever judges names. */
export function recordOf<T>(
  shape: Shape<T>,
  limits: { pairs: number; nameChars?: number },
): Shape<Record<string, T>> {
  const { pairs: most, nameChars = Infinity } = limits;
  const reader = (value: unknown) => {
    if (value === undefined) throw invalid({ param: "", message: "is required" });
    if (!isJsonObject(value)) throw invalid({ param: "", message: "must be an object" });
    const pairs = Object.entries(value);
    if (pairs.length > most) throw invalid({ param: "", message: `must have at most ${most} pairs` });
    const faults: Fault[] = [];
    const kept: [string, T][] = [];
    for (const [name, given] of pairs) {
      collect(faults, () => {
        if (name.length > nameChars)
          throw invalid({ param: name, message: `is longer than ${nameChars} characters` });
        kept.push([name, readAt(shape, given, name)]);
      });
    }
    if (faults.length > 0) throw refusal(faults);
    return Object.fromEntries(kept);
  };
  return readWith(reader, { type: "object", additionalProperties: schemaOf(shape), maxProperties: most });
}

/** JSON Schema (2020-12) of what the shape takes. */
export function schemaOf(shape: Shape<unknown>): JsonObject {
  const { $schema: _, ...schema } = z.toJSONSchema(shape, { io: "input", unrepresentable: "any" });
  const json: unknown = JSON.parse(JSON.stringify(schema));
  return isJsonObject(json) ? json : {};
}

/** The schema of one kind among several, which `type` tells apart. */
export function typed(type: string, schema: JsonObject): JsonObject {
  const { properties, required } = schema;
  return {
    ...schema,
    properties: { type: { const: type }, ...(isJsonObject(properties) && properties) },
    required: ["type", ...(Array.isArray(required) ? required : [])],
  };
}

function faultsOf(issue: z.core.$ZodIssue): Fault[] {
  const param = issue.path
    .map((step) => (typeof step === "number" ? `[${step}]` : String(step)))
    .reduce(under, "");
  if (issue.code === "unrecognized_keys") {
    const lines = issue.message.split("\n");
    return issue.keys.map((key, at) => ({ param: under(param, key), message: lines[at] ?? UNKNOWN }));
  }
  return [{ param, message: issue.message }];
}

/** Our words for the faults that every shape can have; a shape's own message goes before. */
function wording(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case "unrecognized_keys":
      return UNKNOWN;
    case "invalid_type":
      if (issue.input === undefined) return "is required";
      return `must be ${NOUNS[issue.expected] ?? issue.expected}`;
    case "invalid_value":
      if (issue.input === undefined) return "is required";
      return `must be ${issue.values.map((value) => JSON.stringify(value)).join(" or ")}`;
    case "too_big":
      return `must ${amount(issue.origin, "at most", issue.maximum)}`;
    case "too_small":
      return `must ${amount(issue.origin, "at least", issue.minimum)}`;
    default:
      return undefined;
  }
}

const NOUNS: Record<string, string> = {
  string: "a string",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "an object",
  record: "an object",
  array: "an array",
};

function amount(origin: string, bound: string, limit: number | bigint): string {
  if (origin === "string") return `have ${bound} ${limit} characters`;
  if (origin === "array") return `have ${bound} ${limit} entries`;
  return `be ${bound} ${limit}`;
}
