import { expect, test } from "vitest";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { createPlaces } from "../../src/telemetry/places.ts";

let nowMs = 0;
const make = () => createMetrics(() => nowMs);
const linesOf = async (metrics: Metrics, name: string) =>
  (await metrics.read()).text.split("\n").filter((line) => line.startsWith(name));

test("a call is counted by where and how, and timed in seconds", async () => {
  const metrics = make();
  const ongoing = metrics.observer.toolCallBegun({ project: "p", connection: "notes" }, null);
  nowMs += 20;
  ongoing.ended("execution");
  expect(await linesOf(metrics, "consentry_tool_calls_total")).toEqual([
    'consentry_tool_calls_total{project="p",connection="notes",outcome="execution"} 1',
  ]);
  const timed = await linesOf(metrics, "consentry_tool_call_duration_seconds");
  expect(timed).toContain(
    'consentry_tool_call_duration_seconds_bucket{le="0.01",project="p",connection="notes"} 0',
  );
  expect(timed).toContain(
    'consentry_tool_call_duration_seconds_bucket{le="0.025",project="p",connection="notes"} 1',
  );
  expect(timed).toContain('consentry_tool_call_duration_seconds_sum{project="p",connection="notes"} 0.02');
});

test("places beyond the most are one, so that no admin can fill anybody's memory", () => {
  const { labelsOf } = createPlaces(20);
  // A tenth is one project's share, and the rest of it is told by its name.
  const connections = ["a", "b", "c", "d", "a"];
  expect(connections.map((connection) => labelsOf({ project: "p", connection }).connection)).toEqual([
    "a",
    "b",
    "(other)",
    "(other)",
    "a",
  ]);
  const projects = Array.from(
    { length: 20 },
    (_, at) => labelsOf({ project: `q${at}`, connection: "a" }).project,
  );
  expect(projects).toEqual([...Array.from({ length: 18 }, (_, at) => `q${at}`), "(other)", "(other)"]);
});

test("two pairs whose names run together are two", async () => {
  const metrics = make();
  for (const [project, connection] of [
    ["a", "b"],
    ["a-b", null],
    ["a", null],
  ] as const)
    metrics.observer.toolCallBegun({ project, connection }, null).ended("ok");
  expect(await linesOf(metrics, "consentry_tool_calls_total")).toHaveLength(3);
});

test("whatever is no route has one series, whatever its method", async () => {
  const metrics = make();
  for (const method of ["GET", "BREW", "X".repeat(100)])
    metrics.observer.requestBegun(null).answered({ method, route: null, status: 404 });
  expect(await linesOf(metrics, "consentry_http_requests_total")).toEqual([
    'consentry_http_requests_total{method="none",route="none",status="404"} 3',
  ]);
});

test("what is sealed anew, and what ended by itself, is counted", async () => {
  const metrics = make();
  metrics.observer.boxResealed("resealed");
  metrics.observer.boxResealed("resealed");
  metrics.observer.boxResealed("changed");
  metrics.observer.swept("handles", 100);
  metrics.observer.swept("handles", 7);
  expect(await linesOf(metrics, "consentry_boxes_resealed_total{")).toEqual([
    'consentry_boxes_resealed_total{outcome="resealed"} 2',
    'consentry_boxes_resealed_total{outcome="changed"} 1',
  ]);
  expect(await linesOf(metrics, "consentry_swept_rows_total{")).toEqual([
    'consentry_swept_rows_total{chore="handles"} 107',
  ]);
});

test("two brokers in one process count apart", async () => {
  const [one, other] = [make(), make()];
  one.observer.consentBecame("opened");
  expect(await linesOf(one, "consentry_consents_total")).toHaveLength(1);
  expect(await linesOf(other, "consentry_consents_total{")).toEqual([]);
});

test("whoever asks without end takes a tenth of the time at most", async () => {
  let at = 0;
  // Every look at the clock takes 10 ms, and so does a reading.
  const metrics = createMetrics(() => (at += 10));
  const first = await metrics.read();
  metrics.observer.consentBecame("opened");
  const texts: string[] = [];
  for (let asked = 0; asked < 12; asked++) texts.push((await metrics.read()).text);
  expect(texts[0]).toBe(first.text);
  expect(texts.at(-1)).toContain('consentry_consents_total{outcome="opened"} 1');
  expect(new Set(texts).size).toBeLessThan(4);
});

test("the process says how it is", async () => {
  const { text } = await make().read();
  for (const name of [
    "process_cpu_seconds_total",
    "nodejs_heap_size_used_bytes",
    "nodejs_eventloop_lag_seconds",
  ])
    expect(text).toContain(`\n${name}`);
});
