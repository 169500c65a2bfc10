import type { AuthorizationDesk, Way } from "../authorization.ts";
import type { ConnectionRecord } from "../connection.ts";
import { proofOf } from "../consent-proof.ts";
import type { Context } from "../context.ts";
import type { Diagnosis } from "../diagnosis.ts";
import { explainFailure } from "../diagnosis-failures.ts";
import type { GrantStatus } from "../grants.ts";
import type { World } from "../ports.ts";
import { namesOf } from "./overrides.ts";

/** How the users of an OAuth connection are authorized, as an admin reads it. */
export type AuthorizationReport = {
  issuer: string;
  /** Whether a metadata document of the authorization server was read. */
  described: boolean;
  authorizationUrl: string;
  tokenUrl: string;
  revocationUrl: string | null;
  resource: string | null;
  /** How the client came about, and its id. */
  client: Way["clientKind"];
  clientId: string;
  scopes: string[] | null;
  /** What departs from the specification, as `name=value`, and why. */
  overrides: string[];
  overrideReason: string | null;
  /** The calling user's own. `none`: there is none. Null: the call names no user. */
  grant: GrantStatus | "none" | null;
};

/** What is found of an OAuth connection. `isUsable`: the calling user's grant can be used, so the server itself can be asked. */
export type AuthorizationFinding = {
  isUsable: boolean;
  report: AuthorizationReport | null;
  diagnosis: Diagnosis;
};

/**
 * Looks whether people can be asked for their consent, as far as it goes without asking anybody: discovery, registration,
 * PKCE, the proof. Opens no consent.
 */
export async function reportAuthorization(
  { world, authorization }: { world: World; authorization: AuthorizationDesk },
  context: Context,
  record: ConnectionRecord,
): Promise<AuthorizationFinding> {
  const { connection } = record;
  const { project, id: connectionId } = connection;
  const found = context.user && (await world.store.grants.get({ project, connectionId, user: context.user }));
  const grant = context.user === null ? null : (found?.status ?? "none");
  const isUsable = grant === "active";
  const known = isUsable ? await authorization.known(record) : null;
  const ready = known
    ? { ok: true as const, way: known }
    : await authorization.ready(context, record, null, { fresh: true });
  if (!ready.ok) {
    const finding = explainFailure(connection, {}, ready.failure);
    return { isUsable, report: null, diagnosis: { ok: false, ...finding, notes: [], toolCount: null } };
  }
  const report = reportOf(ready.way, grant);
  const fault = await proofFault(world, context);
  const notes = report.overrides.length === 0 ? [] : [overrideNote(report)];
  const diagnosis: Diagnosis =
    fault === null
      ? { ok: true, cause: "none", message: READY, hints: [], notes, toolCount: null }
      : { ok: false, cause: "authorization", message: UNPROVEN, hints: [fault], notes, toolCount: null };
  return { isUsable, report, diagnosis };
}

const READY = "Ready: users are asked for their consent at the first call.";
const UNPROVEN = "The authorization server is ready, but no user could be asked for consent.";

function reportOf(way: Way, grant: AuthorizationReport["grant"]): AuthorizationReport {
  const { server, client, resource, clientKind, scopes, scopesSupported, overrides } = way;
  return {
    issuer: server.issuer,
    described: server.described,
    authorizationUrl: server.authorizationEndpoint,
    tokenUrl: server.tokenEndpoint,
    revocationUrl: server.revocationEndpoint,
    resource,
    client: clientKind,
    clientId: client.clientId,
    scopes: scopes ?? scopesSupported,
    overrides: namesOf(overrides),
    overrideReason: overrides.reason,
    grant,
  };
}

export function overrideNote({ overrides, overrideReason }: AuthorizationReport): string {
  return `Departs from the specification by ${overrides.join(", ")}: ${overrideReason ?? "no reason is given"}.`;
}

/** With the proof `runtime` it is the runtimes' keys that count, not the one that asks. */
async function proofFault(world: World, { project, user }: Context): Promise<string | null> {
  const now = world.clock.now();
  const keys = await world.store.keys.list(project.name);
  const live = keys.filter(({ expiresAt }) => expiresAt === null || expiresAt > now);
  const key = live.find(({ confirmUrl }) => confirmUrl !== null) ?? null;
  const proof = proofOf(world, project, key, user ?? "app:anybody");
  return proof.ok ? null : proof.message;
}
