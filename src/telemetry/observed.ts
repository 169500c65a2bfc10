import type { AskHow, Observer, Ongoing } from "../core/observe.ts";
import type { CallOutcome, ListOutcome, Upstream } from "../core/ports.ts";

/** The same servers, and every question to them is observed. */
export function observeUpstream(upstream: Upstream, observer: Observer): Upstream {
  return {
    listTools: (access, limits) =>
      observed(observer.upstreamAsked("tools/list"), upstream.listTools(access, limits)),
    callTool: (access, call, limits) =>
      observed(observer.upstreamAsked("tools/call"), upstream.callTool(access, call, limits)),
    close: upstream.close,
  };
}

async function observed<T extends ListOutcome | CallOutcome>(
  ongoing: Ongoing<AskHow>,
  asking: Promise<T>,
): Promise<T> {
  let how: AskHow = "failed";
  try {
    const outcome = await asking;
    how = outcome.ok ? "ok" : outcome.failure.kind;
    return outcome;
  } finally {
    ongoing.ended(how);
  }
}
