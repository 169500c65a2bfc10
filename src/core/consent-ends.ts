import type { ConnectionRecord } from "./connection.ts";
import type { ConsentView } from "./consent-views.ts";
import type { Consent } from "./consents.ts";
import { type Actor, auditEntry } from "./context.ts";
import type { World } from "./ports.ts";
import { withParams } from "./url-rules.ts";

/** How consents end, and what is said of it: all to the person's own browser, next to nothing to others. */

export function isOver({ status, expiresAt }: Consent, now: number): boolean {
  return (status !== "open" && status !== "authorizing") || expiresAt <= now;
}

/** Who acts on a page: the person, whom the consent is bound to; no key of ours. */
export function actorOf({ project, user }: Pick<Consent, "project" | "user">, requestId: string): Actor {
  return { caller: { principal: null }, user, requestId, project: { name: project } };
}

/** The connection that a consent is for, as it was then; or why it cannot be finished. */
export async function standingRecord(
  { store }: Pick<World, "store">,
  consent: Consent,
): Promise<ConnectionRecord | { outcome: "connection_deleted" | "connection_changed" | "user_blocked" }> {
  const { project, connection, connectionId, generation, user } = consent;
  const [record, known] = await Promise.all([
    store.connections.get(project, connection),
    store.users.get(project, user),
  ]);
  if (known?.status === "blocked") return { outcome: "user_blocked" };
  if (record?.connection.id !== connectionId) return { outcome: "connection_deleted" };
  return record.connection.generation === generation ? record : { outcome: "connection_changed" };
}

/** Ends a consent, audited. Whoever was faster has decided, and that is shown. */
export async function endConsent(
  world: World,
  consent: Consent,
  end: {
    status: "declined" | "failed";
    outcome: string;
    browserHash: string | null;
    requestId: string;
    /** Only this attempt's. */
    attempt?: string | null;
  },
): Promise<ConsentView> {
  const { status, outcome, browserHash, requestId, attempt = null } = end;
  const declined = status === "declined";
  const entry = auditEntry(
    world,
    actorOf(consent, requestId),
    declined ? "consent_declined" : "consent_failed",
    {
      outcome: declined ? "ok" : "failed",
      connection: consent.connection,
      agent: consent.agent,
      detail: { consent: consent.id, why: outcome },
    },
  );
  const own = declined ? browserHash : null;
  const at = world.clock.now();
  const ended = await world.store.consents.end(
    { id: consent.id, status, outcome, attempt, browserHash: own, at },
    [entry],
  );
  if (ended) world.observer.consentBecame(status);
  const now = ended ?? (await world.store.consents.find(consent.id));
  return now ? overView(world, now, browserHash) : { kind: "unknown" };
}

/** Refuses a visitor, dully; the audit says why (A1). */
export async function refuse(
  world: World,
  consent: Consent,
  { why, requestId }: { why: string; requestId: string },
): Promise<ConsentView> {
  const entry = auditEntry(world, actorOf(consent, requestId), "consent_refused", {
    outcome: "refused",
    connection: consent.connection,
    detail: { consent: consent.id, why },
  });
  await world.audit.record(entry);
  return { kind: "refused" };
}

/** A consent that is over, to the browser with this hash. */
export async function overView(
  world: Pick<World, "clock" | "store">,
  consent: Consent,
  browserHash: string | null,
): Promise<ConsentView> {
  const status = endOf(consent, world.clock.now());
  if (status === null) return { kind: "refused" };
  const isOwn = browserHash !== null && browserHash === consent.browserHash;
  if (!isOwn) {
    return { kind: "over", status, connection: null, serverHost: null, outcome: null, doneUrl: null };
  }
  const record = await world.store.connections.get(consent.project, consent.connection);
  const isSame = record?.connection.id === consent.connectionId;
  return {
    kind: "over",
    status,
    connection: consent.connection,
    serverHost: isSame ? new URL(record.connection.target).host : null,
    outcome: consent.outcome,
    doneUrl: doneUrlOf(consent, status),
  };
}

type Ended = (ConsentView & { kind: "over" })["status"];

function endOf({ status, expiresAt }: Consent, now: number): Ended | null {
  switch (status) {
    case "open":
    case "authorizing":
      return expiresAt <= now ? "expired" : null;
    case "connected":
    case "declined":
    case "failed":
    case "expired":
      return status;
  }
}

/** Exactly what was registered, with what became of it (A13). */
function doneUrlOf({ doneUrl, id }: Consent, status: Ended): string | null {
  return doneUrl === null ? null : withParams(doneUrl, { consent_id: id, status });
}

/** Ends consents that nobody finished, and counts them. */
export async function expireConsents({ store, clock, observer }: World): Promise<void> {
  const now = clock.now();
  const expired = await store.consents.expire({ now, before: now - UNDER_WAY_MS });
  for (let count = 0; count < expired; count++) observer.consentBecame("expired");
}

/** Longer than the exchange of a code that came at the last moment. */
const UNDER_WAY_MS = 5 * 60_000;
