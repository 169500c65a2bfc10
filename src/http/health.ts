import type { World } from "../core/ports.ts";
import { publicRoute, type Route } from "./route.ts";

/** For probes: `/healthz` says that the process runs, `/readyz` that it can work. */
export function healthRoutes({ world }: { world: World }): Route[] {
  return [
    publicRoute({
      method: "GET",
      path: "/healthz",
      tag: "operator",
      summary: "The process runs",
      answers: { 200: { description: "It does" } },
      handle: () => Response.json({ status: "ok" }),
    }),
    publicRoute({
      method: "GET",
      path: "/readyz",
      tag: "operator",
      summary: "The database answers",
      answers: { 200: { description: "It does" }, 503: { description: "It does not" } },
      handle: async () => {
        await world.store.ping();
        return Response.json({ status: "ready" });
      },
    }),
  ];
}
