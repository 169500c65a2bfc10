import { isJsonObject } from "./json.ts";

/**
 * The JSON text of a claims challenge (Microsoft identity platform, "Claims challenges and claims requests"): headers carry it
 * in base64 or as it is. Null: it is no JSON object.
 */
export function decodedClaims(claims: string): string | null {
  try {
    const text = claims.startsWith("{")
      ? claims
      : new TextDecoder().decode(
          Uint8Array.from(atob(claims.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0)),
        );
    return isJsonObject(JSON.parse(text)) ? text : null;
  } catch {
    return null;
  }
}

/** As clients expect it in `WWW-Authenticate: Bearer error="insufficient_claims", claims="…"`. */
export function encodedClaims(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
