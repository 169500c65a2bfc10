import type { Broker } from "../core/broker.ts";
import type { World } from "../core/ports.ts";
import { approvalRoutes } from "./admin/approvals.ts";
import { auditRoutes } from "./admin/audit.ts";
import { connectionRoutes } from "./admin/connections.ts";
import { connectorRoutes } from "./admin/connectors.ts";
import { grantRoutes } from "./admin/grants.ts";
import { keyRoutes } from "./admin/keys.ts";
import { projectRoutes } from "./admin/projects.ts";
import { settingsRoutes } from "./admin/settings.ts";
import { toolRoutes } from "./admin/tools.ts";
import { userRoutes } from "./admin/users.ts";
import { whoamiRoutes } from "./admin/whoami.ts";
import { agentRoutes } from "./foundry/agents.ts";
import { consentRoutes } from "./consent.ts";
import { contextRoutes } from "./responses-context.ts";
import { conversationRoutes } from "./conversations.ts";
import { healthRoutes } from "./health.ts";
import { issuerRoutes } from "./issuer.ts";
import { meRoutes } from "./me.ts";
import { metricsRoutes, type ReadMetrics } from "./metrics.ts";
import { openapiRoute } from "./openapi.ts";
import { styleRoutes } from "./pages-style.ts";
import { responseRoutes } from "./responses.ts";
import type { Route } from "./route.ts";
import { signInRoutes } from "./signin.ts";

/** What handlers need beside their request. */
export type Deps = {
  world: World;
  broker: Broker;
  /** The origin that links and ids are made from; no slash at its end. */
  publicUrl: string;
  /** Why egress would refuse this URL, as a sentence; null when it would not. */
  checkTarget: (url: string) => string | null;
  version: string;
  /** Null: nothing is counted here, and the route is not there. */
  metrics: ReadMetrics | null;
  isStopping: () => boolean;
};

/** Everything that can be asked over HTTP. A feature adds its routes here and nowhere else. */
export function createRoutes(deps: Deps): Route[] {
  const routes = [
    ...healthRoutes(deps),
    ...(deps.metrics ? metricsRoutes({ metrics: deps.metrics }) : []),
    ...issuerRoutes(deps),
    ...responseRoutes(deps),
    ...contextRoutes(deps),
    ...conversationRoutes(deps),
    ...agentRoutes(deps),
    ...connectionRoutes(deps),
    ...toolRoutes(deps),
    ...whoamiRoutes(deps),
    ...grantRoutes(deps),
    ...connectorRoutes(deps),
    ...approvalRoutes(deps),
    ...projectRoutes(deps),
    ...keyRoutes(deps),
    ...userRoutes(deps),
    ...settingsRoutes(deps),
    ...auditRoutes(deps),
    ...consentRoutes(deps),
    ...signInRoutes(deps),
    ...meRoutes(deps),
    ...styleRoutes(),
  ];
  return [...routes, openapiRoute(routes, deps)];
}
