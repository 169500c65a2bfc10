import { operatorRoute, type Route } from "./route.ts";

/** What a scrape is answered with. */
export type ReadMetrics = () => Promise<{ type: string; text: string }>;

/** Metrics for whoever has the operator's key; a listener of their own asks for none (docs/configuration.md). */
export function metricsRoutes({ metrics }: { metrics: ReadMetrics }): Route[] {
  return [
    operatorRoute({
      method: "GET",
      path: "/metrics",
      tag: "operator",
      roles: ["admin"],
      summary: "What was counted and timed, for Prometheus",
      answers: { 200: { description: "The text format of Prometheus", type: "text/plain" } },
      handle: async () => {
        const { type, text } = await metrics();
        return new Response(text, { headers: { "content-type": type } });
      },
    }),
  ];
}
