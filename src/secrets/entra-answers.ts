// What comes of a token request, judged before Azure's packages see it.

/** What came instead of a token. No text of the other side is in it but its codes and the claims that it asks for. */
export type EntraFault =
  /** `code`: the number of AADSTS. */
  | { kind: "refused"; status: number; error: string; code: number | null; claims: string | null }
  | { kind: "unreachable" }
  | { kind: "slow" }
  | { kind: "redirected" }
  /** Its own metadata lead to another host. */
  | { kind: "elsewhere" }
  | { kind: "nonsense" };

/** Whom is asked. An identity endpoint is where the platform's own variables say. */
export type EntraServer = { kind: "authority"; origin: string } | { kind: "endpoint" };

export type EntraAnswer = { status: number; headers: Headers; text: string };

/** The answer, if it is one that MSAL may see; else what is wrong with it. */
export function judged(server: EntraServer, answer: EntraAnswer, method: string): EntraAnswer | EntraFault {
  const fields = jsonObject(answer.text);
  // Azure Arc proves itself in a second step, which its 401 begins.
  const isChallenge = answer.status === 401 && answer.headers.has("www-authenticate");
  if (server.kind === "endpoint" && isChallenge) return answer;
  if (answer.status >= 400) return refusalOf(answer.status, fields ?? {});
  const expectsToken = server.kind === "endpoint" || method === "POST";
  if (!fields || (expectsToken && !isToken(server, fields))) return { kind: "nonsense" };
  return answer;
}

/** Without an end, MSAL would take the token for one that ends now. */
function isToken({ kind }: EntraServer, fields: Record<string, unknown>): boolean {
  const { access_token: token, expires_in: lifeSeconds, expires_on: end } = fields;
  if (typeof token !== "string" || token === "") return false;
  return kind === "authority" ? Number(lifeSeconds) > 0 : end !== undefined && end !== "";
}

function refusalOf(status: number, fields: Record<string, unknown>): EntraFault {
  const { error, error_codes: codes, error_description: description, claims } = fields;
  const code = Array.isArray(codes)
    ? Number(codes[0])
    : Number(/\bAADSTS(\d+)/.exec(String(description))?.[1]);
  return {
    kind: "refused",
    status,
    // It is shown, and so it is one of the words that we know.
    error: typeof error === "string" && ERRORS.includes(error) ? error : "an error",
    code: Number.isSafeInteger(code) && code > 0 ? code : null,
    claims: typeof claims === "string" && claims !== "" && claims.length <= MAX_CLAIMS ? claims : null,
  };
}

/** Failing once is no news of an authority, and identity endpoints answer 404 and 410 while they are made ready. */
export function isWorthAnother({ kind }: EntraServer, fault: EntraFault): boolean {
  if (fault.kind !== "refused") return false;
  return fault.status >= 500 || (kind === "endpoint" && [404, 410, 429].includes(fault.status));
}

/**
 * MSAL gives all managed identities of a process the requests of the first of them, which another part of the program may have made:
 * then its own errors are all that there is.
 */
export function msalFault(error: Error): EntraFault | null {
  if (!("errorCode" in error)) return null;
  if (error.errorCode === "network_error") return { kind: "unreachable" };
  if (error.name !== "ServerError") return null;
  const status = "status" in error && typeof error.status === "number" ? error.status : 400;
  const codes = "errorNo" in error && error.errorNo !== undefined ? [error.errorNo] : undefined;
  return refusalOf(status, {
    error: error.errorCode,
    error_codes: codes,
    error_description: error.message,
  });
}

function jsonObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

const MAX_CLAIMS = 4_096;
const ERRORS = [
  "access_denied",
  "consent_required",
  "interaction_required",
  "invalid_client",
  "invalid_grant",
  "invalid_request",
  "invalid_resource",
  "invalid_scope",
  "invalid_target",
  "login_required",
  "server_error",
  "temporarily_unavailable",
  "unauthorized_client",
  "unsupported_grant_type",
];
