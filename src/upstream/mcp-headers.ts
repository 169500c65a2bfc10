import { isJsonObject, type Json, type JsonObject } from "../core/json.ts";

/** Arguments that a tool wants mirrored as `Mcp-Param-{name}` (2026-07-28, "x-mcp-header"). */
export type Mirrored = { name: string; path: string[] };
export type MirrorScan = { ok: true; mirrored: Mirrored[] } | { ok: false; why: string };

/**
 * What an input schema wants mirrored; or why its wish is not one that may be followed, and then the tool must not be
 * offered at all (same section): the annotation stands on string, integer and boolean properties only, reachable
 * through `properties` alone, with names that are HTTP tokens and unique whatever their case.
 */
export function scanMirrored(schema: JsonObject): MirrorScan {
  const mirrored: Mirrored[] = [];
  const visit = (node: Json | undefined, path: string[] | null): string | null => {
    if (Array.isArray(node)) return firstFault(node, (entry) => visit(entry, null));
    if (!isJsonObject(node)) return null;
    const wish = node[ANNOTATION];
    if (wish !== undefined) {
      const fault = wishFault(wish, { node, path, mirrored });
      if (fault) return fault;
      if (typeof wish === "string" && path) mirrored.push({ name: wish, path });
    }
    return (
      firstFault(membersOf(node.properties), ([name, child]) => visit(child, path && [...path, name])) ??
      firstFault(SUBSCHEMAS, (keyword) => visit(node[keyword], null)) ??
      firstFault(SUBSCHEMA_MAPS, (keyword) =>
        firstFault(membersOf(node[keyword]), ([, child]) => visit(child, null)),
      )
    );
  };
  const why = visit(schema, []);
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

function wishFault(
  wish: Json,
  { node, path, mirrored }: { node: JsonObject; path: string[] | null; mirrored: Mirrored[] },
): string | null {
  if (path === null || path.length === 0) return "x-mcp-header stands where no argument is";
  if (typeof wish !== "string" || !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(wish)) {
    return "x-mcp-header is not an HTTP token";
  }
  if (typeof node.type !== "string" || !["string", "integer", "boolean"].includes(node.type)) {
    return "x-mcp-header stands on something other than a string, integer or boolean";
  }
  const same = mirrored.some(({ name }) => name.toLowerCase() === wish.toLowerCase());
  return same ? "x-mcp-header names one header twice" : null;
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

function membersOf(value: Json | undefined): [string, Json][] {
  return isJsonObject(value) ? Object.entries(value) : [];
}

function firstFault<T>(values: Iterable<T>, faultOf: (value: T) => string | null): string | null {
  for (const value of values) {
    const fault = faultOf(value);
    if (fault !== null) return fault;
  }
  return null;
}

const ANNOTATION = "x-mcp-header";
// JSON Schema 2020-12: keywords that hold a schema or a list of them, and those that hold schemas by name.
const SUBSCHEMAS = [
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
];
const SUBSCHEMA_MAPS = ["patternProperties", "dependentSchemas", "$defs", "definitions"];
