import type { JsonObject } from "../core/json.ts";
import { publicRoute, type Route } from "./route.ts";
import { describe } from "./wire/openapi.ts";

/** `/openapi.json`: what this broker can be asked, itself included. Made at the first request and kept. */
export function openapiRoute(routes: readonly Route[], about: { publicUrl: string; version: string }): Route {
  let description: JsonObject | null = null;
  const route: Route = publicRoute({
    method: "GET",
    path: "/openapi.json",
    tag: "operator",
    summary: "This description",
    answers: { 200: { description: "OpenAPI 3.1" } },
    handle: () => Response.json((description ??= describe([...routes, route], about))),
  });
  return route;
}
