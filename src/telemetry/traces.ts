import {
  createTraceState,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace as api,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BatchSpanProcessor, type SpanExporter, TracerProvider } from "@opentelemetry/sdk-trace";
import type { Observer, Ongoing, Place } from "../core/observe.ts";
import type { Clock, Log } from "../core/ports.ts";
import type { Trace } from "../core/trace.ts";
import { createSampler, type Sampling } from "./sampler.ts";

export type Traces = {
  /** The same observer, and every undertaking is a span, too: of its parent's trace, or of a new one. */
  traced: (observer: Observer) => Observer;
  /** Sends what is left, for a moment. */
  close: () => Promise<void>;
};

type Facts = Record<string, string | number>;

/**
 * Spans by OTLP over HTTP to an operator's collector, in batches; when it is away they are dropped, and no call waits for
 * it. Nothing is registered globally, so that no library adds spans of its own, with URLs and headers in them.
 */
export function createTraces(options: {
  url: string;
  serviceName: string;
  attributes: Record<string, string>;
  version: string;
  sampling: Sampling;
  clock: Pick<Clock, "sleep">;
  log: Log;
}): Traces {
  const { url, serviceName, attributes, version, sampling, clock, log } = options;
  const exporter = logged(new OTLPTraceExporter({ url }), log);
  const provider = new TracerProvider({
    resource: resourceOf({ "service.version": version, ...attributes, "service.name": serviceName }),
    sampler: createSampler(sampling),
    spanProcessors: [new BatchSpanProcessor({ exporter })],
  });
  const tracer = provider.getTracer("consentry", version);

  function begin(name: string, of: { kind: SpanKind; parent: Trace | null; facts: Facts }): Span {
    return tracer.startSpan(name, { kind: of.kind, attributes: of.facts }, contextOf(of.parent));
  }

  const traced = (observer: Observer): Observer => ({
    ...observer,
    requestBegun: (parent) => {
      const span = begin("request", { kind: SpanKind.SERVER, parent, facts: {} });
      const answering = observer.requestBegun(parent);
      return {
        trace: traceOf(span, parent),
        answered: (how) => {
          answering.answered(how);
          const { method, route, status } = how;
          const isKnown = route !== null;
          if (isKnown) span.updateName(`${method} ${route}`);
          span.setAttributes({
            "http.response.status_code": status,
            ...(isKnown && { "http.request.method": method, "http.route": route }),
          });
          if (status >= 500) fail(span, String(status));
        },
        ended: () => {
          answering.ended();
          span.end();
        },
      };
    },
    toolCallBegun: (place, parent) => {
      const span = begin("tool call", { kind: SpanKind.INTERNAL, parent, facts: placed(place) });
      return spanned(span, parent, observer.toolCallBegun(place, parent), (how) =>
        // The person is asked, which is what should happen.
        how === "consent" ? null : failureOf(how),
      );
    },
    upstreamAsked: (asked, parent) => {
      const facts = asked === "model" ? {} : { "mcp.method.name": asked };
      const span = begin(asked, { kind: SpanKind.CLIENT, parent, facts });
      return spanned(span, parent, observer.upstreamAsked(asked, parent), failureOf);
    },
    refreshBegun: (place, parent) => {
      const span = begin("refresh", { kind: SpanKind.CLIENT, parent, facts: placed(place) });
      return spanned(span, parent, observer.refreshBegun(place, parent), (how) =>
        how === "refreshed" ? null : how,
      );
    },
  });
  return {
    traced,
    close: async () => {
      const given = new AbortController();
      const late = clock.sleep(CLOSE_MS, given.signal).then(() => "late" as const);
      // Why it failed was said by the exporter.
      const sent = provider.shutdown().catch(() => {});
      // A collector that is away or hangs does not hold up a stop.
      if ((await Promise.race([sent, late])) === "late") log("warn", "traces_not_sent", { why: "stopping" });
      given.abort();
    },
  };
}

const CLOSE_MS = 2_000;

const failureOf = (how: string) => (how === "ok" ? null : how);

const placed = ({ project, connection }: Place): Facts => ({
  "consentry.project": project,
  ...(connection !== null && { "consentry.connection": connection }),
});

/** Ends span and undertaking in one. `faultOf`: why it failed, in a word of ours; null, it did not. */
function spanned<How>(
  span: Span,
  parent: Trace | null,
  ongoing: Ongoing<How>,
  faultOf: (how: How) => string | null,
): Ongoing<How> {
  return {
    trace: traceOf(span, parent),
    ended: (how) => {
      ongoing.ended(how);
      const fault = faultOf(how);
      if (fault !== null) fail(span, fault);
      span.end();
    },
  };
}

function fail(span: Span, why: string): void {
  span.setStatus({ code: SpanStatusCode.ERROR }).setAttribute("error.type", why);
}

function contextOf(parent: Trace | null) {
  if (!parent) return ROOT_CONTEXT;
  const [, traceId = "", spanId = "", flags = ""] = parent.traceparent.split("-");
  const state = parent.tracestate;
  return api.setSpanContext(ROOT_CONTEXT, {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16),
    isRemote: true,
    ...(state !== null && { traceState: createTraceState(state) }),
  });
}

/** What is passed on names this span; the state is the caller's, byte for byte, because we add nothing to it. */
function traceOf(span: Span, parent: Trace | null): Trace {
  const { traceId, spanId, traceFlags } = span.spanContext();
  const flags = traceFlags.toString(16).padStart(2, "0");
  return { traceparent: `00-${traceId}-${spanId}-${flags}`, tracestate: parent?.tracestate ?? null };
}

type Resource = NonNullable<NonNullable<ConstructorParameters<typeof TracerProvider>[0]>["resource"]>;

function resourceOf(attributes: Record<string, string>): Resource {
  const resource: Resource = {
    attributes,
    merge: () => resource,
    getRawAttributes: () => Object.entries(attributes),
  };
  return resource;
}

/** Says once when the collector cannot be reached, and once when it can again. The package itself says nothing. */
function logged(exporter: SpanExporter, log: Log): SpanExporter {
  let isAway = false;
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        const failed = result.error !== undefined;
        if (failed && !isAway) log("warn", "traces_not_sent", why(result.error));
        if (!failed && isAway) log("info", "traces_sent_again");
        isAway = failed;
        done(result);
      }),
    shutdown: () => exporter.shutdown(),
    ...(exporter.forceFlush && { forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve() }),
  };
}

function why(error: unknown): { why: string } {
  const code = error instanceof Error && "code" in error ? String(error.code) : null;
  return { why: code ?? (error instanceof Error ? error.name : "unknown") };
}
