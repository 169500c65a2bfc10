import type { SecretsBox } from "./connection-auth-rules.ts";
import type {
  ClientCredentialsAuth,
  ConnectionAuth,
  IdentityAuth,
  MachineClient,
  UserTokenAuth,
} from "./connection.ts";
import type { Fault } from "./errors.ts";
import {
  appFaults,
  type Found,
  issuerFaults,
  type NameOf,
  type OAuthDraft,
  paramsOf,
  type Question,
  readOverrides,
  scopeFaults,
} from "./oauth-app-rules.ts";
import { readClient, referencesOf } from "./oauth-client-rules.ts";
import type { TokenServer } from "./oauth.ts";
import type { CheckReference } from "./secret-references.ts";
import type { CheckTarget } from "./url-rules.ts";

/** Why a token for this audience is not made for anybody's connection, as a sentence; null when it is. */
export type CheckAudience = (audience: string) => string | null;

/** What a draft says of an auth kind without people. `exchange`, `grantType`: of the wire, beside what an OAuth draft has. */
export type MachineContext = {
  /** Of the connection that is changed. Null: nothing is kept. */
  existing: ConnectionAuth | null;
  target: string | null;
  checkTarget: CheckTarget;
  checkAudience: CheckAudience;
  checkReference: CheckReference;
  found: Found | null;
  nameOf: NameOf;
};

/** `given`: the draft alone; secrets and URLs are never merged. `held`: the client whose secret the box has. */
type ClientContext = {
  given: OAuthDraft;
  held: MachineClient | null;
  before: { references?: Record<string, string> } | null;
};

export type ReadMachine<A> = { auth: A; secrets: SecretsBox; question: Question | null; faults: Fault[] };

/** The project's own identity, or its agents' (DESIGN 11). There is nothing secret about it. */
export function readIdentity(
  of: IdentityAuth["of"],
  { audience }: Pick<OAuthDraft, "audience">,
  { existing, checkAudience, nameOf }: MachineContext,
): ReadMachine<IdentityAuth> {
  const before = existing?.kind === "identity" || existing?.kind === "user_token" ? existing.audience : "";
  const auth: IdentityAuth = { kind: "identity", of, audience: audience ?? before };
  const faults = audienceFaults(auth.audience, { checkAudience, param: nameOf("audience") });
  return { auth, secrets: { kind: "none" }, question: null, faults };
}

/** The person's own token, exchanged (DESIGN 9, `UserEntraToken`). */
export function readUserToken(
  draft: OAuthDraft,
  exchange: "id-jag" | null | undefined,
  context: MachineContext,
): ReadMachine<UserTokenAuth> {
  const { existing, nameOf } = context;
  const held = existing?.kind === "user_token" ? existing : null;
  const whole = { ...(held && draftOf(held)), ...given(draft) };
  const wantsJag = exchange === undefined ? held?.idJag != null : exchange === "id-jag";
  const audience = whole.audience ?? (existing?.kind === "identity" ? existing.audience : "");
  const scopes = scopesOf(whole);
  const read = readOverrides(whole, nameOf);
  const common = [
    ...audienceFaults(audience, { ...context, param: nameOf("audience") }),
    ...scopeFaults(scopes, nameOf("scopes")),
    ...read.faults,
    ...resourceFaults(read.overrides.resource, context),
  ];
  const { resource, reason } = read.overrides;
  const auth: UserTokenAuth = {
    kind: "user_token",
    audience,
    scopes,
    idJag: null,
    resource,
    overrideReason: reason,
  };
  if (!wantsJag) {
    const stray = (["tokenUrl", "issuer", ...CLIENT_FIELDS] as const).filter((field) => draft[field] != null);
    const message = 'is for exchange "id-jag"';
    const faults = [...common, ...stray.map((field) => ({ param: nameOf(field), message }))];
    return { auth, secrets: { kind: "none" }, question: null, faults };
  }
  // Its audience is the authorization server that takes the assertion.
  const client = readMachineClient(
    { ...whole, issuer: audience === "" ? null : audience },
    { ...context, given: draft, held: held?.idJag ?? null, before: held },
  );
  return {
    auth: { ...auth, idJag: client.client, ...client.references },
    secrets: client.secrets,
    question: common.length > 0 ? null : client.question,
    faults: [...common, ...client.faults],
  };
}

/** One client for all users (RFC 6749, 4.4). */
export function readClientCredentials(
  draft: OAuthDraft,
  context: MachineContext,
): ReadMachine<ClientCredentialsAuth> {
  const { existing, nameOf, target } = context;
  const held = existing?.kind === "client_credentials" ? existing : null;
  const whole = { ...(held && draftOf(held)), ...given(draft) };
  const scopes = scopesOf(whole);
  const read = readOverrides(whole, nameOf);
  const unwanted = PEOPLES.filter((field) => draft[field] != null);
  const common = [
    ...unwanted.map((field) => ({
      param: nameOf(field),
      message: "must be absent with grantType client_credentials: there are no people to send anywhere",
    })),
    ...scopeFaults(scopes, nameOf("scopes")),
    ...appFaults({ tokenParams: whole.tokenParams, audience: whole.audience }, context),
    ...read.faults,
  ];
  const { client, secrets, references, question, faults } = readMachineClient(whole, {
    ...context,
    given: draft,
    held: held?.client ?? null,
    before: held,
  });
  const { resource, reason } = read.overrides;
  const auth: ClientCredentialsAuth = {
    kind: "client_credentials",
    client,
    scopes,
    tokenParams: paramsOf(whole).tokenParams,
    resource,
    overrideReason: reason,
    ...references,
  };
  const isReady = common.length === 0 && target !== null;
  return { auth, secrets, question: isReady ? question : null, faults: [...common, ...faults] };
}

/**
 * The client and the one authorization server that its secret goes to, which is found when the connection is saved and not
 * looked for again: a server that names another one later gets nothing (A7).
 */
function readMachineClient(
  whole: OAuthDraft,
  context: MachineContext & ClientContext,
): {
  client: MachineClient;
  secrets: SecretsBox;
  references: { references?: Record<string, string> };
  question: Question | null;
  faults: Fault[];
} {
  const { held, nameOf, checkTarget, checkReference, before } = context;
  const read = readClient(whole, {
    given: context.given,
    held: held && { clientId: held.clientId, clientAuth: held.clientAuth },
    nameOf,
    checkReference,
  });
  const faults = [...read.faults, ...issuerFaults(whole.issuer, { param: nameOf("issuer"), checkTarget })];
  if (whole.clientId == null) faults.push({ param: nameOf("clientId"), message: "is required" });
  if (read.auth === "none" && read.faults.length === 0) {
    const message = "or privateKey is required: a client without one proves nothing";
    faults.push({ param: nameOf("clientSecret"), message });
  }
  faults.push(...appFaults({ tokenUrl: context.given.tokenUrl }, context));
  const { server, question, ...found } = readTokenServer(whole, context);
  faults.push(...found.faults);
  const client = { clientId: whole.clientId ?? "", clientAuth: read.auth, server };
  const hasStrayed =
    read.box.kind === "keep" &&
    (!held || held.clientId !== client.clientId || !isSamePlace(held.server, server));
  if (hasStrayed && question === null) {
    const message = "must be given again when the client, or the origin of its server, changes";
    faults.push({ param: read.secretName, message });
  }
  const isReady = faults.length === 0;
  const references = referencesOf(read.box, before);
  return { client, secrets: read.box, references, question: isReady ? question : null, faults };
}

/** A typed token URL is taken at its word; else the metadata say where it is, of the issuer given or of the one that guards the target. */
function readTokenServer(
  { issuer }: OAuthDraft,
  { given: { tokenUrl }, held, found, target, nameOf }: MachineContext & ClientContext,
): { server: TokenServer; question: Question | null; faults: Fault[] } {
  if (tokenUrl != null) {
    const origin = URL.parse(tokenUrl)?.origin ?? "";
    const server = { issuer: issuer ?? origin, issuerAssumed: issuer == null, tokenEndpoint: tokenUrl };
    return { server, question: null, faults: [] };
  }
  const isKept = tokenUrl === undefined && (issuer == null || issuer === held?.server.issuer);
  if (held && isKept) return { server: held.server, question: null, faults: [] };
  if (found?.kind === "server" && found.server) {
    const { issuer: named, tokenEndpoint } = found.server;
    return { server: { issuer: named, issuerAssumed: false, tokenEndpoint }, question: null, faults: [] };
  }
  const nowhere = { issuer: issuer ?? "", issuerAssumed: issuer == null, tokenEndpoint: "" };
  if (found) {
    const why = found.why ?? "its metadata name none";
    const message = `must be given: it cannot be found (${why})`;
    return { server: nowhere, question: null, faults: [{ param: nameOf("tokenUrl"), message }] };
  }
  if (issuer != null) return { server: nowhere, question: { kind: "server", issuer }, faults: [] };
  const question = target === null ? null : ({ kind: "server_of", target } as const);
  return { server: nowhere, question, faults: [] };
}

/** Where a kept secret was sent, it may be sent still. */
function isSamePlace(before: TokenServer, after: TokenServer): boolean {
  const originOf = ({ tokenEndpoint }: TokenServer) => URL.parse(tokenEndpoint)?.origin;
  return before.issuer === after.issuer && originOf(before) === originOf(after);
}

/** The settings as an admin would write them: what a change starts from. A server that was found is found again. */
export function draftOf(auth: UserTokenAuth | ClientCredentialsAuth): OAuthDraft {
  const { scopes, resource, overrideReason } = auth;
  const client = auth.kind === "user_token" ? auth.idJag : auth.client;
  const audience = auth.kind === "user_token" ? auth.audience : (auth.tokenParams["audience"] ?? null);
  return {
    scopes,
    audience,
    resource: typeof resource === "object" ? resource.value : resource,
    overrideReason,
    clientId: client?.clientId,
    clientAuth: client?.clientAuth,
    tokenUrl: client?.server.tokenEndpoint,
    issuer: client?.server.issuerAssumed === false ? client.server.issuer : null,
    ...(auth.kind === "client_credentials" && { tokenParams: withoutAudience(auth.tokenParams) }),
  };
}

/** What the tokens of such a connection are for; another place, and held calls and pins mean something else. */
export function placeOfMachine(auth: IdentityAuth | UserTokenAuth | ClientCredentialsAuth): string {
  switch (auth.kind) {
    case "identity":
      return JSON.stringify([auth.kind, auth.of, auth.audience]);
    case "user_token":
      return JSON.stringify([
        auth.kind,
        auth.audience,
        auth.idJag && placeOfClient(auth.idJag),
        auth.resource,
      ]);
    case "client_credentials":
      return JSON.stringify([auth.kind, placeOfClient(auth.client), auth.tokenParams, auth.resource]);
  }
}

const placeOfClient = ({ clientId, server: { issuer, tokenEndpoint } }: MachineClient) => [
  clientId,
  issuer,
  tokenEndpoint,
];

function audienceFaults(
  audience: string,
  { checkAudience, param }: { checkAudience: CheckAudience; param: string },
): Fault[] {
  if (audience === "") {
    const message = "is required: the server's application id URI, such as api://contoso-mcp";
    return [{ param, message }];
  }
  const refusal = checkAudience(audience);
  return refusal === null ? [] : [{ param, message: refusal }];
}

/** A resource is an audience by another name (RFC 8693, 2.1). */
function resourceFaults(
  resource: UserTokenAuth["resource"],
  { checkAudience, nameOf }: MachineContext,
): Fault[] {
  const refusal = typeof resource === "object" ? checkAudience(resource.value) : null;
  return refusal === null ? [] : [{ param: nameOf("resource"), message: refusal }];
}

function scopesOf({ scopes }: OAuthDraft): string[] | null {
  return scopes && scopes.length > 0 ? [...new Set(scopes)] : null;
}

function given(draft: OAuthDraft): OAuthDraft {
  return Object.fromEntries(Object.entries(draft).filter(([, value]) => value !== undefined));
}

function withoutAudience(params: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(params).filter(([name]) => name !== "audience"));
}

const CLIENT_FIELDS = ["clientId", "clientSecret", "privateKey", "clientAuth"] as const;
/** Fields of the ways in which people are asked. */
const PEOPLES = [
  "authorizationUrl",
  "refreshUrl",
  "revocationUrl",
  "authorizeParams",
  "connectorName",
  "provider",
  "refreshScope",
  "pkce",
] as const;
