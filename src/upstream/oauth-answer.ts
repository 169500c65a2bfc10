import { isJsonObject, type Json, type JsonObject } from "../core/json.ts";
import type { RawTokens } from "../core/oauth.ts";
import { broken, OAuthFault, transient } from "./oauth-failures.ts";
import type { Answer } from "./oauth-http.ts";
import { MAX_DESCRIPTION, MAX_ERROR_CODE, MAX_LIFE_SECONDS } from "./oauth-limits.ts";
import { NO_QUIRK, type Quirk } from "./oauth-quirks.ts";

/** From where an answer came, and what of the request must not come back in a message. */
export type Asked = { host: string; secrets: string[]; quirk?: Quirk };

/**
 * Judges an endpoint's answer. Gives the body of a good one; null: it is not a JSON object. Throws `OAuthFault`: an OAuth
 * error (RFC 6749, 5.2) is refused, a server in trouble is transient, anything else breaks a rule.
 */
export function readAnswer({ status, text }: Answer, asked: Asked): JsonObject | null {
  const { host, quirk = NO_QUIRK } = asked;
  if (status === 429 || status === 503)
    throw transient(`${host} answered with status ${status}.`, "not_sent");
  if (status >= 500 || status === 408) throw transient(`${host} answered with status ${status}.`, "unknown");
  const body = objectOf(text);
  const error = status >= 400 || quirk.errorsIn200 ? errorIn(body, quirk) : undefined;
  if (error !== undefined) throw oauthError(error, body, asked);
  if (status >= 300 && status < 400) throw broken(`${host} answered with a redirect, which is not followed.`);
  if (status >= 400) throw broken(`${host} answered with status ${status} and no OAuth error.`);
  return body;
}

function errorIn(body: JsonObject | null, { errorMembers }: Quirk): string | undefined {
  return errorMembers
    .map((name) => body?.[name])
    .find((error): error is string => typeof error === "string" && error !== "");
}

/** As `readAnswer`; a body that is no JSON object is an answer that was lost on its way. */
export function readJsonAnswer(answer: Answer, asked: Asked): JsonObject {
  const body = readAnswer(answer, asked);
  if (!body) throw transient(`${asked.host} answered with something that is not a JSON object.`, "unknown");
  return body;
}

/** A token answer as RFC 6749 would have it: a provider's own ways are translated, and null means absent. */
export function plainTokenAnswer(body: JsonObject, quirk: Quirk): JsonObject {
  const nested = quirk.nested === null ? undefined : body[quirk.nested];
  const own = isJsonObject(nested) && typeof nested["access_token"] === "string" ? nested : body;
  const plain = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== null));
  const { token_type: type, scope } = plain;
  const isBearer =
    typeof type === "string" ? quirk.bearerTypes.includes(type) : quirk.silentType === "bearer";
  if (isBearer) plain["token_type"] = "bearer";
  if (typeof scope === "string") plain["scope"] = scope.split(quirk.scopeSeparator).join(" ");
  return plain;
}

/** What is to be kept, before anything is checked. Null: there is no access token. `at`: when it was asked for. */
export function rawTokensOf(body: JsonObject, at: number): RawTokens | null {
  const { access_token: accessToken, refresh_token: refreshToken, scope, expires_in: life } = body;
  if (typeof accessToken !== "string" || accessToken === "") return null;
  return {
    accessToken,
    refreshToken: typeof refreshToken === "string" && refreshToken !== "" ? refreshToken : null,
    expiresAt: expiryOf(life, at),
    scopes: typeof scope === "string" ? wordsOf(scope) : null,
  };
}

/** The words of a scope (RFC 6749, 3.3). */
export function wordsOf(scope: string): string[] {
  return scope.split(" ").filter((word) => word !== "");
}

/** Null: not an array of texts. */
export function textsOf(value: Json | undefined): string[] | null {
  if (!Array.isArray(value)) return null;
  const texts = value.filter((entry) => typeof entry === "string");
  return texts.length === value.length ? texts : null;
}

export function objectOf(text: string): JsonObject | null {
  try {
    const body: unknown = JSON.parse(text);
    return isJsonObject(body) ? body : null;
  } catch {
    return null;
  }
}

// Some servers write the number as a text.
function expiryOf(life: Json | undefined, at: number): number | null {
  const seconds = typeof life === "string" && life.trim() !== "" ? Number(life) : life;
  if (typeof seconds !== "number" || !(seconds >= 0) || seconds > MAX_LIFE_SECONDS) return null;
  return at + Math.floor(seconds * 1000);
}

function oauthError(code: string, body: JsonObject | null, { host, secrets, quirk }: Asked): OAuthFault {
  const description = body?.["error_description"];
  const keys = typeof description === "string" ? [`${code}: ${description}`, code] : [code];
  const known = keys.find((key) => quirk && Object.hasOwn(quirk.errors, key));
  const meant = known === undefined ? code : (quirk?.errors[known] ?? code);
  const error = told(meant, secrets, MAX_ERROR_CODE);
  if (error === "temporarily_unavailable")
    return transient(`${host} is temporarily unavailable.`, "not_sent");
  if (error === "server_error") return transient(`${host} reports a fault of its own.`, "unknown");
  return new OAuthFault({
    kind: "refused",
    error,
    description: typeof description === "string" ? told(description, secrets, MAX_DESCRIPTION) : null,
  });
}

/** A server's own words: bounded, of the characters that RFC 6749 allows, and without what it was sent. */
export function told(text: string, secrets: string[], limit: number): string {
  const forms = secrets.flatMap((secret) => [secret, encodeURIComponent(secret)]);
  const hidden = forms
    .filter((form) => form !== "")
    .reduce((rest, form) => rest.replaceAll(form, "[hidden]"), text);
  return hidden.replaceAll(/[^\x20-\x7e]+/g, " ").slice(0, limit);
}
