import type { Egress } from "./egress.ts";
import { MAX_ANSWER_BYTES, MAX_ANSWER_DEPTH, TIMEOUT_MS } from "./oauth-limits.ts";

/** An authorization server's answer, read to its end. */
export type Answer = { status: number; text: string };

/** How requests leave: over egress, under our name. */
export type Outgoing = { egress: Egress; userAgent: string; signal: AbortSignal };

/**
 * One request, its answer read within the limits. Rejects with `EgressError`, or with the signal's reason. Redirects of a
 * GET stay within the origin; those of a POST, which carries secrets, are the answer.
 */
export async function ask(
  { egress, userAgent, signal }: Outgoing,
  url: string,
  init: { method: string; headers: Record<string, string>; body?: string },
): Promise<Answer> {
  const fetch = egress.fetch({
    totalMs: TIMEOUT_MS,
    idleMs: TIMEOUT_MS,
    maxBytes: MAX_ANSWER_BYTES,
    maxDepth: MAX_ANSWER_DEPTH,
  });
  const response = await fetch(url, {
    ...init,
    headers: { ...init.headers, "user-agent": userAgent },
    redirect: init.method === "GET" ? "follow" : "manual",
    signal,
  });
  return { status: response.status, text: await response.text() };
}
