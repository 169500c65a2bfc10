import type { TokenCredentialOptions } from "@azure/identity";
import type { INetworkModule } from "@azure/msal-node";
import type { Clock } from "../core/ports.ts";
import {
  type EntraAnswer,
  type EntraFault,
  type EntraServer,
  isWorthAnother,
  judged,
  msalFault,
} from "./entra-answers.ts";

/**
 * Requests to whoever gives tokens, for both of Azure's packages. Theirs follow redirects on the same host, go where
 * metadata say, read answers of any length and cannot be ended. These stay at the authority's origin, follow nothing, and have 20 seconds for each
 * request with what is tried again, and 256 KB of JSON.
 */
export type EntraHttp = {
  forIdentity: NonNullable<TokenCredentialOptions["httpClient"]>;
  forMsal: INetworkModule;
  /** What went wrong by this error. The packages drop the cause when metadata cannot be had; then it is what came last. */
  faultOf: (error: unknown) => EntraFault | null;
};

type Request = {
  url: string;
  method: string;
  headers: Record<string, string>;
  body: string | null;
  signal: AbortSignal | null;
};
type IdentityRequest = Parameters<EntraHttp["forIdentity"]["sendRequest"]>[0];

export function createEntraHttp(server: EntraServer, clock: Pick<Clock, "sleep">): EntraHttp {
  let latest: EntraFault | null = null;

  async function send(request: Request): Promise<EntraAnswer> {
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
): Promise<EntraAnswer | EntraFault> {
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

function msalAnswer<T>({ status, headers, text }: EntraAnswer) {
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
const MAX_CAUSES = 8;
