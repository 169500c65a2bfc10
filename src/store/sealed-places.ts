import type { Column } from "drizzle-orm";
import type { SQLiteTable } from "drizzle-orm/sqlite-core";
import { backgroundAad } from "../core/background.ts";
import { grantAad } from "../core/grants.ts";
import { answerAad } from "../core/idempotency.ts";
import { signingKeyAad } from "../core/signing-keys.ts";
import {
  connectionAad,
  connectorAad,
  consentAad,
  handleAad,
  heldCallAad,
  itemAad,
  projectSecretsAad,
  registrationAad,
  toolSecretsAad,
} from "../core/storage.ts";
import { FIRST_BATCH, PLAN, placeOf } from "./background.ts";
import type { BoxPlace } from "./boxes.ts";
import { ownerOf } from "./grant-boxes.ts";
import { CALL, OUTCOME, REASON } from "./held-call-row.ts";
import { TOOL_SECRETS } from "./response-boxes.ts";
import type { Tables } from "./tables.ts";

/** A column that holds sealed boxes. */
export type SealedPlace<T extends SQLiteTable> = {
  table: T;
  /** The primary key, in order. */
  key: readonly [Column] | readonly [Column, Column];
  box: Column;
  /** What the box of a row is bound to. */
  aad: (row: T["$inferSelect"]) => string;
  /** Where the rest of a large box is. Without it boxes are whole in their rows. */
  rest?: (row: T["$inferSelect"]) => BoxPlace;
};

/**
 * Every column that holds sealed boxes: what is not here stays under its key for ever (sealed-boxes.test.ts compares it with
 * the tables). `use` is called for each, in the order in which they are sealed anew: those that are needed most go first.
 */
export function sealedPlaces<R>(t: Tables, use: <T extends SQLiteTable>(place: SealedPlace<T>) => R): R[] {
  const { projects, connections, connectors, registrations, grants, consents } = t;
  const { background, backgroundBatches } = t;
  const { handles, heldCalls, idempotency, items, responses, signingKeys } = t;
  const ofCall = (part: number) => (row: { project: string; id: string }) => ({
    project: row.project,
    owner: row.id,
    part,
  });
  return [
    use({
      table: signingKeys,
      key: [signingKeys.purpose, signingKeys.seq],
      box: signingKeys.sealed,
      aad: signingKeyAad,
    }),
    use({
      table: projects,
      key: [projects.name],
      box: projects.sealed,
      aad: (row) => projectSecretsAad(row.name, row.version),
    }),
    use({
      table: connectors,
      key: [connectors.name],
      box: connectors.sealed,
      aad: (row) => connectorAad(row.name, row.version),
    }),
    use({
      table: connections,
      key: [connections.id],
      box: connections.sealed,
      aad: (row) => connectionAad(row.project, row.id, row.version),
    }),
    use({
      table: registrations,
      key: [registrations.id],
      box: registrations.sealed,
      aad: (row) => registrationAad(row.project, row.connectionId, row.issuer, row.id),
    }),
    use({
      table: grants,
      key: [grants.id],
      box: grants.sealed,
      aad: grantAad,
      rest: (row) => ({ project: row.project, owner: ownerOf(row), part: row.version }),
    }),
    use({
      table: consents,
      key: [consents.id],
      box: consents.sealedFlow,
      // The two are written together.
      aad: (row) => consentAad(row.project, row.id, row.attempt ?? ""),
    }),
    use({
      table: handles,
      key: [handles.kind, handles.hash],
      box: handles.sealed,
      aad: (row) => handleAad(row.project, row.kind, row.hash),
    }),
    use({
      table: heldCalls,
      key: [heldCalls.id],
      box: heldCalls.sealed,
      aad: (row) => heldCallAad(row.project, row.id, "call"),
      rest: ofCall(CALL),
    }),
    use({
      table: heldCalls,
      key: [heldCalls.id],
      box: heldCalls.sealedReason,
      aad: (row) => heldCallAad(row.project, row.id, "reason"),
      rest: ofCall(REASON),
    }),
    use({
      table: heldCalls,
      key: [heldCalls.id],
      box: heldCalls.sealedOutcome,
      aad: (row) => heldCallAad(row.project, row.id, "outcome"),
      rest: ofCall(OUTCOME),
    }),
    use({
      table: idempotency,
      key: [idempotency.project, idempotency.slot],
      box: idempotency.sealed,
      aad: answerAad,
      rest: (row) => ({ project: row.project, owner: row.run, part: 0 }),
    }),
    use({
      table: background,
      key: [background.id],
      box: background.sealed,
      aad: (row) => backgroundAad(row.project, row.id, "plan"),
      rest: (row) => placeOf(row, PLAN),
    }),
    use({
      table: backgroundBatches,
      key: [backgroundBatches.id, backgroundBatches.seq],
      box: backgroundBatches.sealed,
      aad: (row) => backgroundAad(row.project, row.id, row.seq),
      rest: (row) => placeOf(row, FIRST_BATCH + row.seq),
    }),
    use({
      table: responses,
      key: [responses.id],
      box: responses.sealedToolSecrets,
      aad: (row) => toolSecretsAad(row.project, row.id),
      rest: (row) => ({ project: row.project, owner: row.id, part: TOOL_SECRETS }),
    }),
    use({
      table: items,
      key: [items.threadId, items.position],
      box: items.sealed,
      aad: (row) => itemAad(row.project, row.threadId, row.position),
      rest: (row) => ({ project: row.project, owner: row.threadId, part: row.position }),
    }),
  ];
}
