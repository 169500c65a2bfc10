import type { TokenCredentialOptions } from "@azure/identity";
import type { INetworkModule } from "@azure/msal-node";
import type { Clock } from "../core/ports.ts";

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

/**
 * Requests to whoever gives tokens, for both of Azure's packages. Theirs follow redirects on the same host, read answers of any length and
 * know no end; these do none of that: nothing leaves `origin`, 20 seconds for each with what is tried again, 256 KB of JSON.
 */
export type EntraHttp = {
  forIdentity: NonNullable<TokenCredentialOptions["httpClient"]>;
  forMsal: INetworkModule;
  /** What went wrong by this error. The packages drop the cause when metadata cannot be had; then it is what came last. */
  faultOf: (error: unknown) => EntraFault | null;
};

/** Whom is asked. An identity endpoint is where the platform's own variables say. */
export type EntraServer = { kind: "authority"; origin: string } | { kind: "endpoint" };

type Request = {
  url: string;
  method: string;
  headers: Record<string, string>;
  body: string | null;
  signal: AbortSignal | null;
};
type Answer = { status: number; headers: Headers; text: string };
type IdentityRequest = Parameters<EntraHttp["forIdentity"]["sendRequest"]>[0];

export function createEntraHttp(server: EntraServer, clock: Pick<Clock, "sleep">): EntraHttp {
  let latest: EntraFault | null = null;

  async function send(request: Request): Promise<Answer> {
    const late = AbortSignal.timeout(LIMIT_MS);
    const signal = request.signal ? AbortSignal.any([late, request.signal]) : late;
    for (let attempt = 0; ; attempt++) {
      const came = await sendOnce(server, request, signal);
      if (!("kind" in came)) return came;
      const pauseMs = isWorthAnother(server, came) ? PAUSES_MS[attempt] : undefined;
      if (pauseMs === undefined || signal.aborted) throw await thrown(came);
      await clock.sleep(pauseMs, signal);
    }
  }

  // Only errors of this class come through MSAL as they are; all others become "network_error" without their cause.
  async function thrown(fault: EntraFault): Promise<Error> {
    const { AuthError } = await import("@azure/msal-node");
    latest = fault;
    return Object.assign(new AuthError("no_token", "", fault.kind), { [FAULT]: fault });
  }

  return {
    forIdentity: {
      sendRequest: async (request) => {
        const { status, headers, text } = await send(ofIdentity(request));
        return { request, status, headers: headersOf(headers), bodyAsText: text };
      },
    },
    forMsal: {
      sendGetRequestAsync: async (url, options) => msalAnswer(await send(ofMsal("GET", url, options))),
      sendPostRequestAsync: async (url, options) => msalAnswer(await send(ofMsal("POST", url, options))),
    },
    faultOf: (error) => {
      for (const cause of causesOf(error)) {
        const fault = isThrown(cause) ? cause[FAULT] : msalFault(cause);
        if (fault) return fault;
      }
      return latest;
    },
  };
}

const FAULT = Symbol("what came instead of a token");
const isThrown = (error: Error): error is Error & { [FAULT]: EntraFault } => FAULT in error;

/**
 * MSAL gives all managed identities of a process the requests of the first of them, which another part of the program may have made:
 * then its own errors are all that there is.
 */
function msalFault(error: Error): EntraFault | null {
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

/** The error and what caused it. */
export function causesOf(error: unknown): Error[] {
  const causes: Error[] = [];
  for (let at = error; at instanceof Error && causes.length < MAX_CAUSES; at = at.cause) causes.push(at);
  return causes;
}

async function sendOnce(
  server: EntraServer,
  request: Request,
  signal: AbortSignal,
): Promise<Answer | EntraFault> {
  const { url, method, headers, body } = request;
  if (server.kind === "authority" && URL.parse(url)?.origin !== server.origin) return { kind: "elsewhere" };
  try {
    const response = await fetch(url, { method, headers, body, signal, redirect: "manual" });
    if (response.status >= 300 && response.status < 400) {
      await response.body?.cancel();
      return { kind: "redirected" };
    }
    const text = await readText(response);
    if (text === null) return { kind: "nonsense" };
    return judged(server, { status: response.status, headers: response.headers, text }, method);
  } catch {
    return { kind: signal.aborted ? "slow" : "unreachable" };
  }
}

function judged(server: EntraServer, answer: Answer, method: string): Answer | EntraFault {
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
function isWorthAnother({ kind }: EntraServer, fault: EntraFault): boolean {
  if (fault.kind !== "refused") return false;
  return fault.status >= 500 || (kind === "endpoint" && [404, 410, 429].includes(fault.status));
}

function jsonObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

/** Null: it is longer than anything that we ask for. */
async function readText({ body }: Response): Promise<string | null> {
  if (!body) return "";
  const decoder = new TextDecoder();
  let text = "";
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    // Leaving the loop gives the stream up.
    if (length > MAX_BYTES) return null;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function ofIdentity({ url, method, headers, body, abortSignal }: IdentityRequest): Request {
  if (body !== undefined && body !== null && typeof body !== "string")
    throw new Error("a token request is a form");
  const signal = abortSignal instanceof AbortSignal ? abortSignal : null;
  return { url, method, headers: headers.toJSON(), body: body ?? null, signal };
}

function ofMsal(method: string, url: string, options: Parameters<INetworkModule["sendGetRequestAsync"]>[1]) {
  return { url, method, headers: options?.headers ?? {}, body: options?.body ?? null, signal: null };
}

function msalAnswer<T>({ status, headers, text }: Answer) {
  // MSAL reads the fields one by one and lets none of them be what it is not.
  return { status, headers: Object.fromEntries(headers), body: JSON.parse(text) as T };
}

/** Azure's face of headers. Nobody but the packages' own pipeline reads them. */
function headersOf(headers: Headers): IdentityRequest["headers"] {
  return {
    get: (name) => headers.get(name) ?? undefined,
    has: (name) => headers.has(name),
    set: (name, value) => headers.set(name, String(value)),
    delete: (name) => headers.delete(name),
    toJSON: () => Object.fromEntries(headers),
    [Symbol.iterator]: () => headers.entries(),
  };
}

/** All of a token's making takes no longer, either. */
export const LIMIT_MS = 20_000;
const PAUSES_MS = [400, 1_200];
const MAX_BYTES = 256 * 1024;
const MAX_CLAIMS = 4_096;
const MAX_CAUSES = 8;
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
