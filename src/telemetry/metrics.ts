import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Observer, Ongoing, RequestEnd } from "../core/observe.ts";
import { createSharedWork } from "../core/shared-work.ts";
import type { Trace } from "../core/trace.ts";
import { createPlaces } from "./places.ts";

/** What a scrape is answered with. */
export type Exposition = { type: string; text: string };

export type Metrics = {
  observer: Observer;
  /** A line of the log was lost, because nobody took those before it. */
  lineDropped: () => void;
  /** Everything counted so far, in Prometheus' text format; a moment old where somebody has just asked. */
  read: () => Promise<Exposition>;
};

/** Metrics of one process, in a registry of their own. `now`: milliseconds that only grow, with fractions. */
export function createMetrics(now: () => number): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const places = createPlaces(MAX_PLACES);
  // Many series take long to write: whoever asks without end gets the same again, and nine tenths of the time are for calls.
  const reads = createSharedWork<Exposition & { tookMs: number }>({
    max: 1,
    // Nothing of it waits, so nobody waits for it.
    clock: { now, sleep: () => new Promise(() => {}) },
    withinMs: Infinity,
    keepMs: ({ tookMs }) => tookMs * 9,
  });

  function counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return new Counter({ name: `consentry_${name}`, help, labelNames, registers: [registry] });
  }
  function seconds<L extends string>(name: string, help: string, labelNames: readonly L[]): Histogram<L> {
    const buckets = BUCKETS_S;
    return new Histogram({ name: `consentry_${name}`, help, labelNames, buckets, registers: [registry] });
  }

  const requests = counter("http_requests_total", "HTTP requests answered", ["method", "route", "status"]);
  const requestS = seconds("http_request_duration_seconds", "Until the answer's head", ["route"]);
  const refusals = counter("refusals_total", "HTTP requests refused, by why", ["code"]);
  const calls = counter("tool_calls_total", "Tool calls made", ["project", "connection", "outcome"]);
  const callS = seconds("tool_call_duration_seconds", "Credential, refresh and server together", [
    "project",
    "connection",
  ]);
  const asks = counter("upstream_requests_total", "Questions to MCP servers and models", ["ask", "outcome"]);
  const askS = seconds("upstream_request_duration_seconds", "Until the whole answer", ["ask"]);
  const refreshes = counter("refreshes_total", "Refreshes of users' tokens", [
    "project",
    "connection",
    "outcome",
  ]);
  const consents = counter("consents_total", "Consents, by what became of them", ["outcome"]);
  const approvals = counter("approvals_total", "Held calls, by what became of them", ["outcome"]);
  const reseals = counter("boxes_resealed_total", "Boxes under an older key, by what became of them", [
    "outcome",
  ]);
  const swept = counter("swept_rows_total", "Rows that ended by themselves, by what they are", ["chore"]);

  const backgrounds = counter("background_responses_total", "In the background, by what became of them", [
    "outcome",
  ]);
  const running = new Gauge({
    name: "consentry_background_running",
    help: "Responses that this process makes in the background now",
    registers: [registry],
  });
  const lines = counter("log_lines_dropped_total", "Lines of the log that were lost", []);

  function timed<How>(trace: Trace | null, count: (how: How, tookS: number) => void): Ongoing<How> {
    const begun = now();
    return { trace, ended: (how) => count(how, (now() - begun) / 1000) };
  }

  const observer: Observer = {
    requestBegun: (parent) => {
      const { trace, ended: answered } = timed<RequestEnd>(parent, ({ method, route, status }, tookS) => {
        // Anybody can make up methods and paths, and whatever is no route has only one label.
        requests.inc({ method: route === null ? NONE : method, route: route ?? NONE, status });
        requestS.observe({ route: route ?? NONE }, tookS);
      });
      return { trace, answered, ended: () => {} };
    },
    toolCallBegun: (place, parent) =>
      timed(parent, (outcome, tookS) => {
        const labels = places.labelsOf(place);
        calls.inc({ ...labels, outcome });
        callS.observe(labels, tookS);
      }),
    upstreamAsked: (ask, parent) =>
      timed(parent, (outcome, tookS) => {
        asks.inc({ ask, outcome });
        askS.observe({ ask }, tookS);
      }),
    refreshBegun: (place, parent) =>
      timed(parent, (outcome) => refreshes.inc({ ...places.labelsOf(place), outcome })),
    consentBecame: (outcome, count) => consents.inc({ outcome }, count),
    approvalBecame: (outcome, count) => approvals.inc({ outcome }, count),
    boxResealed: (outcome) => reseals.inc({ outcome }),
    swept: (chore, rows) => swept.inc({ chore }, rows),
    backgroundBecame: (outcome) => backgrounds.inc({ outcome }),
    backgroundRunning: (count) => running.set(count),
    refused: (code) => refusals.inc({ code }),
  };
  return {
    observer,
    lineDropped: () => lines.inc(),
    read: () =>
      reads("all", async () => {
        const begun = now();
        const text = await registry.metrics();
        return { type: registry.contentType, text, tookMs: now() - begun };
      }),
  };
}

const NONE = "none";
/** How many pairs of project and connection are told apart. */
const MAX_PLACES = 1_000;
/** A call through the broker takes milliseconds; a tool may take minutes. */
const BUCKETS_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
