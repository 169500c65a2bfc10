import type { Context } from "../context.ts";
import type { Found, Question } from "../oauth-app-rules.ts";
import type { OAuthFailure } from "../oauth.ts";
import type { World } from "../ports.ts";

/** Asks the network what the rules cannot know. The same question is asked once, however often a write is tried. */
export type LookUp = (question: Question) => Promise<Found>;

export function createLookUp(world: World, { signal: caller }: Pick<Context, "signal">): LookUp {
  const asked = new Map<string, Promise<Found>>();

  async function ask(question: Question): Promise<Found> {
    const signal = AbortSignal.any([caller, AbortSignal.timeout(LOOK_UP_MS)]);
    switch (question.kind) {
      case "server":
        return serverAt(question.issuer, signal);
      case "server_of": {
        const guards = await world.oauth.protectedResource(question.target, null, signal);
        if (!guards.ok) return { kind: "server", server: null, why: sentenceOf(guards.failure) };
        const [only, ...others] = guards.value?.authorizationServers ?? [];
        if (only !== undefined && others.length === 0) return serverAt(only, signal);
        const why = only === undefined ? "the server names none" : "the server names several: give issuer";
        return { kind: "server", server: null, why };
      }
      case "guards": {
        const outcome = await world.oauth.protectedResource(question.target, null, signal);
        if (!outcome.ok) return { kind: "guards", issuers: [], why: sentenceOf(outcome.failure) };
        return { kind: "guards", issuers: outcome.value?.authorizationServers ?? [], why: null };
      }
    }
  }

  async function serverAt(issuer: string, signal: AbortSignal): Promise<Found> {
    const outcome = await world.oauth.authServer(issuer, signal);
    if (outcome.ok) return { kind: "server", server: outcome.value, why: null };
    return { kind: "server", server: null, why: sentenceOf(outcome.failure) };
  }

  return (question) => {
    const key = JSON.stringify(question);
    const running = asked.get(key) ?? ask(question);
    asked.set(key, running);
    return running;
  };
}

/** Reads a draft by the rules, and once more with the answer if the rules have a question. */
export async function readWith<R extends { question: Question | null }>(
  lookUp: LookUp,
  read: (found: Found | null) => R,
): Promise<R> {
  const first = read(null);
  return first.question === null ? first : read(await lookUp(first.question));
}

const LOOK_UP_MS = 5_000;

function sentenceOf(failure: OAuthFailure): string {
  return failure.kind === "refused" ? `it answered with the error ${failure.error}` : failure.message;
}
