import type { HeaderValues } from "../core/connection.ts";
import type { UpstreamAccess } from "../core/ports.ts";
import type { Egress, EgressAnswer } from "./egress.ts";
import type { Deadline } from "./mcp-deadline.ts";
import { failed, thrown, type Failed } from "./mcp-failures.ts";
import { MAX_ANSWER_BYTES, MAX_ANSWER_DEPTH, MAX_REDIRECTS } from "./mcp-limits.ts";

export type HttpRequest = {
  access: UpstreamAccess;
  method: "POST" | "GET" | "DELETE";
  /** The protocol's own headers; they win over those of the credential. */
  headers: Record<string, string>;
  body: string | null;
  deadline: Deadline;
  /** Of the answer, after decompression; `MAX_ANSWER_BYTES` where it is not said. */
  maxBytes?: number;
};

/** One HTTP request to a server, and its answer's head. Nothing goes to another origin than the server's own. */
export async function request(
  egress: Egress,
  { access, method, headers, body, deadline, maxBytes = MAX_ANSWER_BYTES }: HttpRequest,
): Promise<{ ok: true; response: EgressAnswer } | Failed> {
  const all = joined(access.headers, headers);
  if (!all) {
    const message = "A header of the connection cannot be sent: its name or value is not one of HTTP.";
    return failed({ kind: "refused", message }, { sent: false });
  }
  const ended = deadline.ended();
  if (ended) return failed(ended, { sent: false });
  const ask = egress.ask({
    totalMs: deadline.longestMs,
    // A tool may think in silence for as long as it may run.
    idleMs: deadline.longestMs,
    maxBytes,
    maxDepth: MAX_ANSWER_DEPTH,
  });
  const init = { method, headers: all, body, signal: deadline.signal, redirect: "manual" as const };
  let url = access.url;
  for (let hop = 0; ; hop++) {
    let response: EgressAnswer;
    try {
      response = await ask(url, init);
    } catch (error) {
      return thrown(error, { deadline, sent: hop > 0 });
    }
    if (!REDIRECTS.includes(response.status)) return { ok: true, response };
    response.discard();
    const next = sameRequestAt(response, url);
    if (!next || hop === MAX_REDIRECTS) {
      const message = `The server redirects (HTTP ${response.status}) to where the call may not follow.`;
      return failed({ kind: "refused", message }, { sent: true });
    }
    url = next;
  }
}

/** Whether the server took the request (2xx). */
export const isTaken = ({ status }: Pick<EgressAnswer, "status">) => status >= 200 && status < 300;

/** The `type/subtype` of an answer, in lower case; empty where it names none. */
export function mediaTypeOf(response: EgressAnswer): string {
  return response.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
}

/** Null: a name or value is not one that HTTP can carry. The original fault quotes the value, so it goes nowhere. */
function joined(credential: HeaderValues, protocol: Record<string, string>): Headers | null {
  try {
    const headers = new Headers();
    for (const [name, value] of Object.entries(credential)) {
      if (!RESERVED.test(name)) headers.set(name, value);
    }
    for (const [name, value] of Object.entries(protocol)) headers.set(name, value);
    return headers;
  } catch {
    return null;
  }
}

/** 307 and 308 ask for the same request again, and only the same origin may (RFC 9110, 15.4.8). */
function sameRequestAt(response: EgressAnswer, url: string): string | null {
  if (response.status !== 307 && response.status !== 308) return null;
  const next = URL.parse(response.headers.get("location") ?? "", url);
  if (!next || next.origin !== new URL(url).origin) return null;
  return next.href;
}

const REDIRECTS = [301, 302, 303, 307, 308];
// What the protocol or HTTP itself owns, so that a credential's header can neither forge nor break it.
const RESERVED =
  /^(accept|content-type|content-length|content-encoding|transfer-encoding|connection|keep-alive|upgrade|te|trailer|expect|host|last-event-id|mcp-session-id|mcp-protocol-version|mcp-method|mcp-name|mcp-param-.*)$/i;
