import { EgressError, type EgressLimits } from "../../src/upstream/egress.ts";

/** Wide enough for what is not about limits. */
export const LIMITS: EgressLimits = { totalMs: 10_000, idleMs: 5_000, maxBytes: 1_000_000, maxDepth: 20 };

/** Why it failed: the error of an outbound call, or of reading its answer. */
export async function failureOf(work: Promise<unknown>): Promise<EgressError> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error instanceof EgressError) return error;
  throw new Error("expected an EgressError", { cause: error });
}
