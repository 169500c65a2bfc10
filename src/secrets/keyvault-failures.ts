import type { RestError } from "@azure/keyvault-secrets";
import { isJsonObject } from "../core/json.ts";

/** Why a vault gave nothing. */
export type VaultFailure = {
  /** `away` passes by itself; the other two wait for somebody to change something. */
  kind: "forbidden" | "missing" | "away";
  /** What follows a name of the secret: "cannot be read: …". No value, no body of the vault. */
  why: string;
  /** How long the vault asks to be left alone. */
  waitMs: number;
};

/** What our own guards around a vault's client say (`keyvault-client.ts`). */
export class VaultGuardError extends Error {
  override readonly name = "VaultGuardError";
}

/** The one place where the faults of the Azure packages become ours. `isRestError`: the package's own, which is loaded late. */
export function vaultFailure(
  error: unknown,
  isRestError: (error: unknown) => error is RestError,
): VaultFailure {
  if (error instanceof VaultGuardError) return away(error.message);
  if (isRestError(error)) return ofAnswer(error);
  if (!(error instanceof Error)) return away("it could not be asked");
  // The errors of @azure/identity, and of what it stands on, say in their text who refused what. Their code is enough.
  const code = /\bAADSTS\d+\b/.exec(error.message)?.[0];
  const about = code === undefined ? error.name : `${error.name}, ${code}`;
  return away(
    IDENTITY_ERRORS.has(error.name)
      ? `the broker's own identity got no token for it (${about})`
      : `it could not be asked (${about})`,
  );
}

function ofAnswer(error: RestError): VaultFailure {
  const { statusCode: status, code = "no code" } = error;
  switch (status) {
    case undefined:
      return away(`the vault does not answer (${code})`);
    case 401:
      return failed("forbidden", "the vault does not take the broker's token (401)");
    case 403: {
      const inner = innerCode(error.details);
      if (inner === "SecretDisabled") return failed("forbidden", "it is disabled (403)");
      const said = inner === null ? "403" : `403, ${inner}`;
      return failed("forbidden", `the vault forbids it to the broker's identity (${said}); ${ROLE}`);
    }
    case 404:
      return failed("missing", "the vault has no such secret (404)");
    case 429:
      return away("the vault asks to wait (429)", retryAfterMs(error.response?.headers.get("retry-after")));
    default:
      return away(`the vault failed (${status})`, retryAfterMs(error.response?.headers.get("retry-after")));
  }
}

const ROLE = "the role that it needs there is Key Vault Secrets User";

const IDENTITY_ERRORS = new Set([
  "AggregateAuthenticationError",
  "AuthenticationError",
  "AuthenticationRequiredError",
  "CredentialUnavailableError",
]);

function away(why: string, waitMs = 0): VaultFailure {
  return { kind: "away", why, waitMs };
}

function failed(kind: "forbidden" | "missing", why: string): VaultFailure {
  return { kind, why, waitMs: 0 };
}

/** Seconds (RFC 9110, 10.2.3), within reason: Key Vault never gives dates. */
function retryAfterMs(header: string | undefined): number {
  if (header === undefined || !/^\d{1,9}$/.test(header)) return 0;
  return Math.min(Number(header) * 1000, MAX_WAIT_MS);
}

/** A vault that asks for more is asked again all the same: it is not its word that a secret lives by. */
const MAX_WAIT_MS = 10 * 60_000;

/** Azure's more telling word for a 403, such as `ForbiddenByFirewall`. */
function innerCode(details: unknown): string | null {
  const inner = member(member(details, "error"), "innerError");
  const code = member(inner, "code");
  return typeof code === "string" && /^[A-Za-z]{1,60}$/.test(code) ? code : null;
}

function member(value: unknown, name: string): unknown {
  return isJsonObject(value) ? value[name] : undefined;
}
