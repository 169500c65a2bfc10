import { pgColumns } from "./columns.pg.ts";
import { defineTables } from "./tables.ts";

// drizzle-kit reads the exports of this file; each table must be one.
export const {
  projects,
  keys,
  users,
  connections,
  toolPins,
  agents,
  agentVersions,
  threads,
  items,
  responses,
  conversations,
  idempotency,
  leases,
  background,
  backgroundBatches,
  heldCalls,
  grants,
  consents,
  registrations,
  connectors,
  redirects,
  handles,
  signingKeys,
  boxChunks,
  audit,
} = defineTables(pgColumns);
