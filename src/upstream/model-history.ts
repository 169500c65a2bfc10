import { type BrokerError, invalid } from "../core/errors.ts";
import type { FunctionCallOutput, Item } from "../core/items.ts";
import type { ModelExchange } from "../core/ports.ts";

/** What stands where a client has not answered a call of its function: upstreams want an output for each. */
export const NO_OUTPUT = "(no output: this call has not been answered)";

/** The outputs of the client's functions by the call that they answer, in order. */
export function outputsByCall(history: (Item | ModelExchange)[]): Map<string, FunctionCallOutput[]> {
  const outputs = new Map<string, FunctionCallOutput[]>();
  for (const item of history) {
    if (item.kind !== "function_call_output") continue;
    outputs.set(item.callId, [...(outputs.get(item.callId) ?? []), item]);
  }
  return outputs;
}

/** The ids of all calls of a history, to be told from new ones. */
export function callIdsOf(history: (Item | ModelExchange)[]): Set<string> {
  return new Set(history.flatMap((item) => ("callId" in item ? [item.callId] : [])));
}

/** The refusal of an output that answers nothing. */
export function orphan({ callId }: FunctionCallOutput): BrokerError<"invalid"> {
  return invalid({
    param: "input",
    message: `no function_call comes before the output of call_id ${callId}`,
  });
}

/**
 * Ids as upstreams take them: OpenAI allows only so many characters, some want exactly nine letters and digits, all want each id
 * once. An id that came from an upstream goes back as it is; others are numbered, in order, so that the same history
 * gives the same text and prompt caches keep working.
 */
export function createCallIds({ maxChars }: { maxChars: number }) {
  const used = new Set<string>();
  return {
    next: (callId: string): string => {
      const isShort = callId.length <= maxChars && /^[A-Za-z0-9_.:-]+$/.test(callId);
      const fits = isShort && !used.has(callId);
      let id = callId;
      for (let count = used.size + 1; !fits && (id === callId || used.has(id)); count++) {
        id = `call${String(count).padStart(5, "0")}`;
      }
      used.add(id);
      return id;
    },
  };
}
