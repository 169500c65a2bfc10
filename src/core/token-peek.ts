import { isJsonObject, type JsonObject } from "./json.ts";
import { MAX_TOKEN_CHARS } from "./token-verification.ts";

/**
 * Whether a credential is a JWT and not a key: three parts, the first of which is a JSON object with `alg`. Such a text is
 * never looked up as a key, and no other is verified as a token.
 */
export function isToken(text: string): boolean {
  return text.length <= MAX_TOKEN_CHARS && JWT.test(text) && hasTokenHead(text);
}

/** Whether a text begins as tokens do, whole or not: it is not a name that somebody chose. */
export function hasTokenHead(text: string): boolean {
  const end = text.slice(0, MAX_TOKEN_CHARS).indexOf(".");
  const head = end < 0 ? null : decoded(text.slice(0, end));
  return head !== null && Object.hasOwn(head, "alg");
}

/** What a token says of itself, before anybody believes it: it tells which issuer to ask, and nothing else. */
export function unverifiedClaims(token: string): JsonObject | null {
  return decoded(token.split(".")[1] ?? "");
}

function decoded(part: string): JsonObject | null {
  try {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (c) =>
      c.charCodeAt(0),
    );
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return isJsonObject(value) ? value : null;
  } catch {
    return null;
  }
}

const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;
