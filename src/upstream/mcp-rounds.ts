import type { JsonObject } from "../core/json.ts";
import { inputsFor, readInputsWanted } from "./mcp-answering.ts";
import { ask, type Asked, type Asking, type To } from "./mcp-ask.ts";
import { INPUT_PAUSE_MS, MAX_INPUT_ROUNDS, MAX_INPUTS } from "./mcp-limits.ts";

/**
 * Asks a server, and again with what it asks for, as long as that can be given (2026-07-28, "Multi Round-Trip Requests").
 * Each round is a request of its own; `requestState` goes back byte for byte, and only with this question. Where an input
 * is not to be had the server's last answer stands, which says what it wants.
 */
export async function askInRounds(asking: Asking, to: To): Promise<Asked> {
  const { answering, deadline } = to;
  let { question } = to;
  for (let round = 0; ; round++) {
    const asked = await ask(asking, { ...to, question });
    // The server has taken up the first round, whatever became of this one.
    if (!asked.ok) return round === 0 ? asked : { ...asked, sent: true };
    if (asked.line.era === "legacy") return asked;
    const wanted = readInputsWanted(asked.result, { method: question.method, most: MAX_INPUTS });
    if (!wanted) return asked;
    if (round === MAX_INPUT_ROUNDS) return tooMany;
    // With nothing to give, the server only wants to be asked later.
    if (wanted.requests.length === 0) {
      const { first, most } = INPUT_PAUSE_MS;
      await asking.outside.clock.sleep(Math.min(first * 2 ** round, most), deadline.signal);
    }
    const given = inputsFor(answering, { wanted, signal: deadline.signal });
    const inputs = await Promise.race([given, deadline.over.then(() => null)]);
    const ended = deadline.ended();
    if (ended) return { ok: false, failure: ended, sent: true };
    if (!inputs) return asked;
    const back: JsonObject = {
      ...(wanted.requests.length > 0 && { inputResponses: inputs }),
      ...(wanted.state !== null && { requestState: wanted.state }),
    };
    question = { ...to.question, params: { ...to.question.params, ...back } };
  }
}

const tooMany: Asked = {
  ok: false,
  failure: {
    kind: "not_mcp",
    message: `The server asked for more input ${MAX_INPUT_ROUNDS + 1} times without coming to an end.`,
  },
  sent: true,
};
