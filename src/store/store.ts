import type { Store } from "../core/storage.ts";
import { createAgents } from "./agents.ts";
import { createAuditLog } from "./audit.ts";
import { createBackground } from "./background.ts";
import { createConnections } from "./connections.ts";
import { createConnectors } from "./connectors.ts";
import { createConsents } from "./consents.ts";
import type { Engine } from "./engine.ts";
import { createConversations } from "./conversations.ts";
import { createExpiry } from "./expiry.ts";
import { createGrants } from "./grants.ts";
import { createHandles } from "./handles.ts";
import { createIdempotency } from "./idempotency.ts";
import { createHeldCalls } from "./held-calls.ts";
import { createKeys } from "./keys.ts";
import { createLeases } from "./leases.ts";
import { createProjects } from "./projects.ts";
import { createRedirects } from "./redirects.ts";
import { createRegistrations } from "./registrations.ts";
import { createResponses } from "./responses.ts";
import { createRetention } from "./retention.ts";
import { createSealedBoxes } from "./sealed-boxes.ts";
import { createSigningKeys } from "./signing-keys.ts";
import { createToolPins } from "./tool-pins.ts";
import { createUsers } from "./users.ts";

/** The store on any engine. Statements are made once, here; the engine prepares each at its first use. */
export function createStore(engine: Engine): Store {
  const projects = createProjects(engine);
  return {
    projects,
    keys: createKeys(engine),
    users: createUsers(engine),
    connections: createConnections(engine),
    toolPins: createToolPins(engine),
    agents: createAgents(engine),
    responses: createResponses(engine),
    conversations: createConversations(engine),
    idempotency: createIdempotency(engine),
    background: createBackground(engine),
    heldCalls: createHeldCalls(engine),
    grants: createGrants(engine),
    connectors: createConnectors(engine),
    redirects: createRedirects(engine),
    registrations: createRegistrations(engine),
    consents: createConsents(engine),
    handles: createHandles(engine),
    signingKeys: createSigningKeys(engine),
    audit: createAuditLog(engine),
    upkeep: {
      leases: createLeases(engine),
      boxes: createSealedBoxes(engine),
      expiry: createExpiry(engine),
      retention: createRetention(engine),
    },
    ping: async () => {
      await projects.list({ after: null, limit: 1 });
    },
    close: engine.close,
  };
}
