import { BrokerError, type Noun } from "../errors.ts";

/**
 * Read, decide, compare-and-swap: again when somebody else was faster. `attempt` gives null for a lost race.
 * Throws `changed_meanwhile` when it is lost every time.
 */
export async function tryUntilWon<T>(
  thing: { what: Noun; name: string },
  attempt: () => Promise<T | null>,
): Promise<T> {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const result = await attempt();
    if (result !== null) return result;
  }
  throw new BrokerError("changed_meanwhile", thing);
}

/** Of n racers at least one wins each round, so this serves as many at once. */
const MAX_ROUNDS = 32;
