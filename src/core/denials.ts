import type { Item } from "./items.ts";

/**
 * What a request says, without its echoes of denials. The AI SDK says each twice where it streams: as the answer to our request, and as
 * the output of a call that it made up to show the request by. That call is in nobody's history, and the answer says all.
 *
 * `chain`: what came before. Any other output without its call stays, and is refused where history is read.
 */
export function withoutEchoedDenials(input: Item[], chain: Item[]): Item[] {
  const calls = [...chain, ...input].flatMap((item) => (item.kind === "function_call" ? [item.callId] : []));
  const called = new Set(calls);
  let isDenied = false;
  return input.filter((item) => {
    isDenied ||= item.kind === "mcp_approval_response" && !item.approve;
    return !isDenied || item.kind !== "function_call_output" || called.has(item.callId);
  });
}
