import type { AskHow, Observer, Ongoing } from "../core/observe.ts";
import type { CallOutcome, ListOutcome, Upstream } from "../core/ports.ts";
import type { Trace } from "../core/trace.ts";

/** The same servers, and every question to them is observed. */
export function observeUpstream(upstream: Upstream, observer: Observer): Upstream {
  return {
    listTools: (access, limits) =>
      observed(observer.upstreamAsked("tools/list", limits.trace ?? null), (trace) =>
        upstream.listTools(access, { ...limits, trace }),
      ),
    callTool: (access, call, limits) =>
      observed(observer.upstreamAsked("tools/call", limits.trace ?? null), (trace) =>
        upstream.callTool(access, call, { ...limits, trace }),
      ),
    endSessions: upstream.endSessions,
    changeOf: upstream.changeOf,
    close: upstream.close,
  };
}

async function observed<T extends ListOutcome | CallOutcome>(
  ongoing: Ongoing<AskHow>,
  ask: (trace: Trace | null) => Promise<T>,
): Promise<T> {
  let how: AskHow = "failed";
  try {
    const outcome = await ask(ongoing.trace);
    how = outcome.ok ? "ok" : outcome.failure.kind;
    return outcome;
  } finally {
    ongoing.ended(how);
  }
}
