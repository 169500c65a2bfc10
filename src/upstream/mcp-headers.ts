import { isJsonObject, type Json, type JsonObject } from "../core/json.ts";
import { MAX_MIRRORED_PARAMETERS } from "./mcp-limits.ts";

/** Arguments that a tool wants mirrored as `Mcp-Param-{name}` (2026-07-28, "x-mcp-header"). */
export type Mirrored = { name: string; path: string[] };
export type MirrorScan = { ok: true; mirrored: Mirrored[] } | { ok: false; why: string };

/**
 * What an input schema wants mirrored; or why its wish is not one that may be followed, and then the tool must not be
 * offered at all (same section): the annotation stands on string, integer and boolean properties only, reachable
 * through `properties` alone, with names that are HTTP tokens and unique whatever their case. More than
 * `MAX_MIRRORED_PARAMETERS` are not followed either. Each part of the schema is looked at once.
 */
export function scanMirrored(schema: JsonObject): MirrorScan {
  const mirrored: Mirrored[] = [];
  const names = new Set<string>();
  const path: string[] = [];

  /** `reachable`: through `properties` alone, by the path at the moment. */
  function visit(node: Json | undefined, reachable: boolean): string | null {
    if (Array.isArray(node)) return firstFault(node, (entry) => visit(entry, false));
    if (!isJsonObject(node)) return null;
    return firstFault(Object.keys(node), (keyword) => {
      const value = node[keyword];
      if (keyword === ANNOTATION) return wish(value, node, reachable);
      if (keyword === "properties") return visitArguments(value, reachable);
      if (SUBSCHEMAS.has(keyword)) return visit(value, false);
      return SUBSCHEMA_MAPS.has(keyword) ? visitMembers(value) : null;
    });
  }

  function visitArguments(value: Json | undefined, reachable: boolean): string | null {
    if (!isJsonObject(value)) return null;
    return firstFault(Object.keys(value), (name) => {
      path.push(name);
      const fault = visit(value[name], reachable);
      path.pop();
      return fault;
    });
  }

  function visitMembers(value: Json | undefined): string | null {
    if (!isJsonObject(value)) return null;
    return firstFault(Object.keys(value), (name) => visit(value[name], false));
  }

  function wish(name: Json | undefined, { type }: JsonObject, reachable: boolean): string | null {
    if (!reachable || path.length === 0) return "x-mcp-header stands where no argument is";
    if (typeof name !== "string" || !TOKEN.test(name)) return "x-mcp-header is not an HTTP token";
    if (typeof type !== "string" || !MIRRORED_TYPES.includes(type)) {
      return "x-mcp-header stands on something other than a string, integer or boolean";
    }
    if (names.has(name.toLowerCase())) return "x-mcp-header names one header twice";
    if (names.size === MAX_MIRRORED_PARAMETERS) {
      return `x-mcp-header asks for more than ${MAX_MIRRORED_PARAMETERS} headers`;
    }
    names.add(name.toLowerCase());
    mirrored.push({ name, path: [...path] });
    return null;
  }

  const why = visit(schema, true);
  return why === null ? { ok: true, mirrored } : { ok: false, why };
}

/** The headers of one call: absent and null arguments have none, and neither has what is not a plain value. */
export function mirrorHeaders(mirrored: Mirrored[], args: JsonObject): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const { name, path } of mirrored) {
    const text = plainText(path.reduce<Json | undefined>(stepInto, args));
    if (text !== null) headers[`Mcp-Param-${name}`] = headerValue(text);
  }
  return headers;
}

/**
 * Text as a header value: as it is where it is visible ASCII, spaces and tabs inside it, else as the Base64 sentinel
 * (2026-07-28, "Value Encoding"). No text can break out of it.
 */
export function headerValue(text: string): string {
  const plain = /^[\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?$/.test(text);
  if (plain && !(text.startsWith("=?base64?") && text.endsWith("?="))) return text;
  const bytes = new TextEncoder().encode(text);
  return `=?base64?${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))}?=`;
}

function stepInto(value: Json | undefined, name: string): Json | undefined {
  return isJsonObject(value) && Object.hasOwn(value, name) ? value[name] : undefined;
}

function plainText(value: Json | undefined): string | null {
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return String(value);
  if (typeof value !== "number" || !Number.isFinite(value)) return null;
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? null : String(value);
}

function firstFault<T>(values: Iterable<T>, faultOf: (value: T) => string | null): string | null {
  for (const value of values) {
    const fault = faultOf(value);
    if (fault !== null) return fault;
  }
  return null;
}

const ANNOTATION = "x-mcp-header";
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const MIRRORED_TYPES = ["string", "integer", "boolean"];
// JSON Schema 2020-12: keywords that hold a schema or a list of them, and those that hold schemas by name.
const SUBSCHEMAS = new Set([
  "items",
  "prefixItems",
  "contains",
  "additionalProperties",
  "unevaluatedProperties",
  "unevaluatedItems",
  "propertyNames",
  "oneOf",
  "anyOf",
  "allOf",
  "not",
  "if",
  "then",
  "else",
]);
const SUBSCHEMA_MAPS = new Set(["patternProperties", "dependentSchemas", "$defs", "definitions"]);
