import type { World } from "../core/ports.ts";
import { publicRoute, type Route } from "./route.ts";

/** `isStopping`: whether this process takes its last requests. */
type Health = { world: World; isStopping: () => boolean };

/** For probes: `/healthz` says that the process runs, `/readyz` that it is to be sent requests. */
export function healthRoutes({ world, isStopping }: Health): Route[] {
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
      summary: "The database answers, and the process does not stop",
      answers: { 200: { description: "So it is" }, 503: { description: "It is not so" } },
      handle: async () => {
        if (isStopping()) return Response.json({ status: "stopping" }, { status: 503 });
        await world.store.ping();
        return Response.json({ status: "ready" });
      },
    }),
  ];
}
