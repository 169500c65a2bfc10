import type { AskHow, Observer } from "./observe.ts";
import type { Model, ModelEvent, ModelRequest } from "./ports.ts";

/** What a model says, observed from the question to the end of the answer, or until nobody listens any more. */
export async function* observedStream(
  { observer }: { observer: Observer },
  model: Model,
  request: ModelRequest,
  signal: AbortSignal,
): AsyncGenerator<ModelEvent> {
  const ongoing = observer.upstreamAsked("model", request.trace ?? null);
  let how: AskHow = "failed";
  try {
    yield* model.stream({ ...request, trace: ongoing.trace }, signal);
    how = "ok";
  } finally {
    ongoing.ended(signal.aborted ? "cancelled" : how);
  }
}
