import type { AuthorizationDesk, Ready, Way } from "../authorization.ts";
import type { Connection, ConnectionRecord } from "../connection.ts";
import { proofOf } from "../consent-proof.ts";
import type { Context } from "../context.ts";
import type { Diagnosis } from "../diagnosis.ts";
import { isRefusal } from "../errors.ts";
import { explainFailure } from "../diagnosis-failures.ts";
import type { GrantSeen } from "../diagnosis-grants.ts";
import type { GrantStatus } from "../grants.ts";
import { noCredential } from "../no-credential.ts";
import { oauthOf } from "../oauth-settings.ts";
import type { Challenge, UpstreamFailure, World } from "../ports.ts";
import { namesOf } from "./overrides.ts";
import { adviseOnDiscovery, NOTHING, probeApp, type Probed, signInFault } from "./setup-probe.ts";

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
  /** Why it is not active. Null: it is, or there is none. */
  grantReason: string | null;
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
  const seen = await seeGrant(world, context, connection);
  const isUsable = seen.grant?.status === "active";
  const ready = await wayOf(authorization, context, { record, isUsable });
  if (!ready.ok) return unready(world, context, connection, { isUsable, failure: ready.failure });
  const { way } = ready;
  const report = withGrant(reportOf(way), seen);
  const { faults, notes } = isUsable ? NOTHING : await probe(world, context, connection, way);
  const [first, ...more] = faults;
  const finding = first ?? { cause: "none" as const, message: READY, hints: [] };
  const told = [
    ...more.map(({ message, hints }) => [message, ...hints].join(" ")),
    ...notes,
    ...(report.overrides.length === 0 ? [] : [overrideNote(report)]),
    ...(first || isOurs(way) ? [] : [untried(way, { isPlain: notes.length === 0 })]),
  ];
  return { isUsable, report, diagnosis: { ok: !first, ...finding, notes: told, toolCount: null } };
}

/** What is stored of the calling user's account now. */
export async function seeGrant(
  { store }: Pick<World, "store">,
  { user }: Pick<Context, "user">,
  { project, id: connectionId }: Connection,
): Promise<GrantSeen> {
  return { user, grant: user && (await store.grants.get({ project, connectionId, user })) };
}

export function withGrant(
  report: Omit<AuthorizationReport, "grant" | "grantReason">,
  { user, grant }: GrantSeen,
): AuthorizationReport {
  const status = user === null ? null : (grant?.status ?? "none");
  return { ...report, grant: status, grantReason: grant?.reason ?? null };
}

async function wayOf(
  authorization: AuthorizationDesk,
  context: Context,
  { record, isUsable }: { record: ConnectionRecord; isUsable: boolean },
): Promise<Ready> {
  const { connection } = record;
  try {
    const known = isUsable ? await authorization.known(record) : null;
    if (known) return { ok: true, way: known, challenge: null };
    return await authorization.ready(context, record, challengeFor(connection), { fresh: true });
  } catch (error) {
    // What is not about a secret that is kept elsewhere is a fault of ours, and not the setup's.
    if (isRefusal(error, "unavailable") && error.details.reference === undefined) throw error;
    return { ok: false, failure: noCredential(connection.name, error) };
  }
}

const READY = "Ready: users are asked for their consent at the first call.";
const UNPROVEN = "No user could be asked for consent, because nobody could be proven to be that user.";

/** An app's server is asked by the probe, in less time; discovery asks by itself. */
function challengeFor(connection: Connection): Challenge | null {
  const isFound = oauthOf(connection).source.kind === "discovery";
  return isFound ? null : { error: null, scope: null, resourceMetadata: null, claims: null };
}

async function probe(world: World, context: Context, connection: Connection, way: Way): Promise<Probed> {
  const isTyped = way.clientKind === "custom" || way.clientKind === "connector";
  const [{ faults, notes }, unproven] = await Promise.all([
    isTyped ? probeApp(world, connection, way, context.signal) : NOTHING,
    proofFault(world, context),
  ]);
  if (unproven === null) return { faults, notes };
  const fault = { cause: "authorization" as const, message: UNPROVEN, hints: [unproven] };
  return { faults: [...faults, fault], notes };
}

/** A client that we registered or describe ourselves. */
const isOurs = ({ clientKind }: Way) => clientKind === "dynamic" || clientKind === "metadata_document";

/** What an admin gave, and what no server says anything about before there is a person. */
function untried({ server: { described } }: Way, { isPlain }: { isPlain: boolean }): string {
  const what = described
    ? "The client, its secret and the scopes"
    : "The client, its secret, the scopes and the paths of its URLs";
  return `${isPlain ? "Nothing contradicts this setup. " : ""}${what} are tried only when a person connects.`;
}

async function unready(
  world: World,
  { signal }: Context,
  connection: Connection,
  { isUsable, failure }: { isUsable: boolean; failure: UpstreamFailure },
): Promise<AuthorizationFinding> {
  const { hints, ...finding } = explainFailure(connection, {}, failure);
  const isLasting = failure.kind === "authorization" && !failure.transient;
  const isFound = oauthOf(connection).source.kind === "discovery";
  const advice = isLasting && isFound ? await adviseOnDiscovery(world, connection, signal) : [];
  const diagnosis = { ok: false, ...finding, hints: [...advice, ...hints], notes: [], toolCount: null };
  return { isUsable, report: null, diagnosis };
}

function reportOf(way: Way): Omit<AuthorizationReport, "grant" | "grantReason"> {
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
  };
}

export function overrideNote({ overrides, overrideReason }: AuthorizationReport): string {
  return `Departs from the specification by ${overrides.join(", ")}: ${overrideReason ?? "no reason is given"}.`;
}

/** With the proof `runtime` it is the runtimes' keys and issuers that count, not the one that asks. */
async function proofFault(world: World, { project, user, signal }: Context): Promise<string | null> {
  const now = world.clock.now();
  const keys = await world.store.keys.list(project.name);
  const live = keys.filter(({ expiresAt }) => expiresAt === null || expiresAt > now);
  const askers = [...live, ...project.settings.issuers];
  const asker = askers.find(({ confirmUrl }) => confirmUrl !== null) ?? null;
  const proof = proofOf(world, project, asker, user ?? "app:anybody");
  if (!proof.ok) return proof.message;
  const { signIn } = project.settings;
  return proof.proof === "sign-in" && signIn ? signInFault(world, signIn, signal) : null;
}
