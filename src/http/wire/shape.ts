import * as z from "zod";
import { type Fault, invalid, isRefusal } from "../../core/errors.ts";
import { isJsonObject, type JsonObject } from "../../core/json.ts";

/** What a body or a query must look like, and what it becomes. Unknown fields are ignored unless the shape is strict. */
export type Shape<T> = z.ZodType<T>;

/** Gives the value in the shape, or throws `invalid` with every fault, each under the caller's own spelling. */
export function read<T>(shape: Shape<T>, value: unknown): T {
  const result = shape.safeParse(value, { error: wording });
  if (result.success) return result.data;
  throw invalid(...result.error.issues.flatMap(faultsOf));
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

/** A JSON object that is kept as it is. */
export const jsonObject = z
  .custom<JsonObject>(isJsonObject, "must be an object")
  .meta({ type: "object", additionalProperties: true });

/** JSON Schema (2020-12) of what the shape takes. */
export function schemaOf(shape: Shape<unknown>): JsonObject {
  const { $schema: _, ...schema } = z.toJSONSchema(shape, { io: "input", unrepresentable: "any" });
  const json: unknown = JSON.parse(JSON.stringify(schema));
  return isJsonObject(json) ? json : {};
}

/** `a.b` below `a`; an index stands without a dot. */
export function under(param: string, step: string): string {
  if (param === "" || step === "") return param + step;
  return step.startsWith("[") ? param + step : `${param}.${step}`;
}

function faultsOf(issue: z.core.$ZodIssue): Fault[] {
  const param = issue.path
    .map((step) => (typeof step === "number" ? `[${step}]` : String(step)))
    .reduce(under, "")
    .slice(0, MAX_PARAM_CHARS);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ param: under(param, key), message: "is not known here" }));
  }
  return [{ param, message: issue.message }];
}

const MAX_PARAM_CHARS = 200;

/** Our words for the faults that every shape can have; a shape's own message goes before. */
function wording(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
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
