import { type Fault, invalid } from "../../core/errors.ts";
import { isJsonObject, type JsonObject } from "../../core/json.ts";
import type { ApprovalRule, ToolFilter } from "../../core/policy.ts";
import { collect, refusal, under } from "./faults.ts";
import { readWith, type Shape } from "./shape.ts";

/**
 * Reads `require_approval`: `always`, `never`, or `{always?, never?}` whose filters are `{tool_names?, read_only?}` or
 * bare name arrays (responses-wire 2.2, 5.1). Null stays null: the caller did not say.
 *
 * Throws `invalid` with its faults, each under `param`.
 */
export function readApprovalRule(value: unknown, param: string): ApprovalRule | null {
  if (value === null || value === undefined) return null;
  if (value === "always" || value === "never") return value;
  if (!isJsonObject(value)) {
    throw invalid({ param, message: 'must be "always", "never" or {"always": filter, "never": filter}' });
  }
  const faults: Fault[] = [];
  const filterOf = (key: "always" | "never") =>
    value[key] === null || value[key] === undefined
      ? undefined
      : collect(faults, () => readFilter(value[key], under(param, key)));
  const always = filterOf("always");
  const never = filterOf("never");
  if (faults.length > 0) throw refusal(faults);
  return { ...(always && { always }), ...(never && { never }) };
}

/**
 * Reads `allowed_tools`: a name array or `{tool_names?, read_only?}`. Null: everything is allowed. An object that says
 * neither is refused: it is a slip of the pen, and must not open everything.
 */
export function readToolFilter(value: unknown, param: string): ToolFilter | null {
  if (value === null || value === undefined) return null;
  const filter = readFilter(value, param);
  if (filter.toolNames !== undefined || filter.readOnly !== undefined) return filter;
  throw invalid({ param, message: "must give tool_names or read_only" });
}

export function writeApprovalRule(rule: ApprovalRule): JsonObject | "always" | "never" {
  if (typeof rule === "string") return rule;
  return {
    ...(rule.always && { always: writeToolFilter(rule.always) }),
    ...(rule.never && { never: writeToolFilter(rule.never) }),
  };
}

export function writeToolFilter(filter: ToolFilter): JsonObject {
  return {
    ...(filter.toolNames && { tool_names: filter.toolNames }),
    ...(filter.readOnly !== undefined && { read_only: filter.readOnly }),
  };
}

const NAMES_SCHEMA: JsonObject = { type: "array", items: { type: "string" } };
const FACTS_SCHEMA: JsonObject = {
  type: "object",
  properties: { tool_names: NAMES_SCHEMA, read_only: { type: "boolean" } },
};
const FILTER_SCHEMA: JsonObject = { anyOf: [NAMES_SCHEMA, FACTS_SCHEMA] };

export const approvalRule: Shape<ApprovalRule | null> = readWith(readApprovalRule, {
  anyOf: [
    { enum: ["always", "never", null] },
    { type: "object", properties: { always: FILTER_SCHEMA, never: FILTER_SCHEMA } },
  ],
});

export const toolFilter: Shape<ToolFilter | null> = readWith(readToolFilter, {
  anyOf: [NAMES_SCHEMA, FACTS_SCHEMA, { type: "null" }],
});

/** Both spellings are read: SDKs write `toolNames` in their own options, and admins copy them. */
function readFilter(value: unknown, param: string): ToolFilter {
  if (Array.isArray(value)) return { toolNames: readNames(value, param) };
  if (!isJsonObject(value)) {
    throw invalid({ param, message: "must be an array of tool names or {tool_names, read_only}" });
  }
  const faults: Fault[] = [];
  const names = eitherOf(value, ["tool_names", "toolNames"]);
  const hint = eitherOf(value, ["read_only", "readOnly"]);
  const toolNames = names && collect(faults, () => readNames(names.value, under(param, names.key)));
  if (hint && typeof hint.value !== "boolean") {
    faults.push({ param: under(param, hint.key), message: "must be true or false" });
  }
  if (faults.length > 0) throw refusal(faults);
  return {
    ...(toolNames && { toolNames }),
    ...(typeof hint?.value === "boolean" && { readOnly: hint.value }),
  };
}

function eitherOf(object: JsonObject, keys: string[]): { key: string; value: unknown } | undefined {
  const key = keys.find((name) => object[name] !== null && object[name] !== undefined);
  return key === undefined ? undefined : { key, value: object[key] };
}

function readNames(value: unknown, param: string): string[] {
  if (!Array.isArray(value)) throw invalid({ param, message: "must be an array of tool names" });
  if (value.length > MAX_NAMES) {
    throw invalid({ param, message: `must have at most ${MAX_NAMES} tool names` });
  }
  const isName = (name: unknown) => typeof name === "string" && name !== "" && name.length <= MAX_NAME_CHARS;
  const faults = value.flatMap((name: unknown, at) =>
    isName(name) ? [] : [{ param: under(param, `[${at}]`), message: "must be a tool name" }],
  );
  if (faults.length > 0) throw refusal(faults);
  return value.map(String);
}

const MAX_NAMES = 2_000;
const MAX_NAME_CHARS = 256;
