import { MAX_TOKENS, wordsOf } from "./scopes.ts";
import type { Question } from "./consent-asking.ts";
import type { Grant } from "./grants.ts";
import type { Challenge, World } from "./ports.ts";

/** What to do about a 403. `none`: it is not about scopes. `give_up`: asking again would change nothing. */
export type StepUp =
  | { kind: "none" }
  | { kind: "give_up"; message: string }
  | { kind: "ask"; why: string; question: Question };

/**
 * A server wants more than was granted (RFC 6750, 3.1 `insufficient_scope`): the person is asked for the union of what they
 * granted and what is wanted (C29), a bounded number of times (C31).
 */
export async function stepUp(
  { store, clock }: Pick<World, "store" | "clock">,
  grant: Grant,
  challenge: Challenge | null,
): Promise<StepUp> {
  if (challenge?.error !== "insufficient_scope") return { kind: "none" };
  const wanted = wordsOf(challenge.scope) ?? [];
  const newScopes = wanted.filter((scope) => !grant.scopes.includes(scope));
  const named = wanted.join(" ").slice(0, MAX_NAMED_CHARS);
  if (newScopes.length === 0) {
    return {
      kind: "give_up",
      message: `the server wants the scopes "${named}", and the user granted them already`,
    };
  }
  const lately = await store.consents.since(grant, clock.now() - WINDOW_MS);
  const stepsUp = lately.filter(({ status, why }) => status === "connected" && why === WHY);
  if (stepsUp.length >= MAX_STEPS || wanted.length + grant.scopes.length > MAX_TOKENS) {
    const message = `the server asks for ever more scopes ("${named}"); the user is not asked again for now`;
    return { kind: "give_up", message };
  }
  const asked = stepsUp.filter(({ scopes }) => newScopes.every((scope) => scopes?.includes(scope)));
  if (asked.length >= MAX_TIMES) {
    const message = `the user was asked for the scopes "${named}" ${asked.length} times, and the authorization server did not grant them`;
    return { kind: "give_up", message };
  }
  const scopes = [...new Set([...grant.scopes, ...wanted])];
  return {
    kind: "ask",
    why: WHY,
    question: { why: WHY, scopes, newScopes },
  };
}

const WHY = "insufficient_scope";
/** For the same scopes, and for any. */
const MAX_TIMES = 2;
const MAX_STEPS = 5;
const MAX_NAMED_CHARS = 300;
const WINDOW_MS = 60 * 60_000;
