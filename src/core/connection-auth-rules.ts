import type { Connection, ConnectionAuth } from "./connection.ts";
import {
  type CheckAudience,
  type MachineContext,
  placeOfMachine,
  readClientCredentials,
  readIdentity,
  readUserToken,
} from "./connection-machine-rules.ts";
import { placeOfOAuth, readOAuth } from "./connection-oauth-rules.ts";
import type { Fault } from "./errors.ts";
import { headerSecretFaults } from "./header-secret-rules.ts";
import type { Found, NameOf, OAuthDraft, Question } from "./oauth-app-rules.ts";
import type { ClientBox } from "./oauth-client-rules.ts";
import { type CheckReference, type HeaderSecrets, refsOf } from "./secret-references.ts";
import type { CheckTarget } from "./url-rules.ts";

/** What a draft says of credentials. */
export type AuthDraft = {
  /** The header names and values of `credentials.keys`. Null: `credentials` without any. */
  keys?: HeaderSecrets | null | undefined;
  /** Read with `OAuth2`, and in part with the kinds that exchange or are given tokens. */
  oauth?: OAuthDraft | undefined;
  /** With `OAuth2`: whether people are asked (the default), or one client serves all. */
  grantType?: "authorization_code" | "client_credentials" | null | undefined;
  /** With `UserEntraToken`: how the person's token is exchanged. Null: at the person's own issuer. */
  exchange?: "id-jag" | null | undefined;
};

/** What becomes of the secrets: there are none, they stay as they are, or they are new. */
export type SecretsBox = ClientBox | { kind: "headers"; headers: HeaderSecrets };

export type ReadAuth = {
  auth: ConnectionAuth;
  secrets: SecretsBox;
  question: Question | null;
  faults: Fault[];
};

type AuthContext = {
  /** Of the connection that is changed. Null: nothing is kept. */
  existing: ConnectionAuth | null;
  before: Connection | null;
  mode: "replace" | "change";
  target: string | null;
  checkTarget: CheckTarget;
  checkAudience: CheckAudience;
  checkReference: CheckReference;
  found: Found | null;
  at: string;
};

/** The rules of a connection's credentials, by its auth kind. */
export function readAuth(authType: string | null, draft: AuthDraft, context: AuthContext): ReadAuth {
  const read = readByType(authType, draft, context);
  return { ...read, faults: [...read.faults, ...kindFaults(authType, draft, context.at)] };
}

function readByType(authType: string | null, draft: AuthDraft, context: AuthContext): ReadAuth {
  const param = `${context.at}.credentials`;
  const isEmpty = !draft.keys || Object.keys(draft.keys).length === 0;
  if (authType === "CustomKeys")
    return withClientFaults(readKeys(draft.keys, context), draft, authType, param);
  const stray =
    isEmpty || authType === null ? [] : [{ param, message: `must hold no keys with authType ${authType}` }];
  const read = readTokens(authType, draft, context);
  if (read) return { ...read, faults: [...stray, ...read.faults] };
  const none: ReadAuth = { auth: { kind: "none" }, secrets: { kind: "none" }, question: null, faults: stray };
  return authType === "None" ? withClientFaults(none, draft, authType, param) : { ...none, faults: [] };
}

/** The kinds whose tokens somebody issues. Null: the kind is none of them. */
function readTokens(authType: string | null, draft: AuthDraft, context: AuthContext): ReadAuth | null {
  const oauth = draft.oauth ?? {};
  const machine = { ...context, nameOf: nameIn(context.at) } satisfies MachineContext;
  switch (authType) {
    case "OAuth2": {
      const isShared =
        draft.grantType === undefined
          ? context.existing?.kind === "client_credentials"
          : draft.grantType === "client_credentials";
      return isShared ? readClientCredentials(oauth, machine) : readOAuthAuth(oauth, context);
    }
    case "ProjectManagedIdentity":
      return withClientFaults(
        readIdentity("project", oauth, machine),
        draft,
        authType,
        `${context.at}.credentials`,
      );
    case "AgenticIdentityToken":
      return withClientFaults(
        readIdentity("agent", oauth, machine),
        draft,
        authType,
        `${context.at}.credentials`,
      );
    case "UserEntraToken":
      return readUserToken(oauth, draft.exchange, machine);
    default:
      return null;
  }
}

function kindFaults(authType: string | null, { grantType, exchange }: AuthDraft, at: string): Fault[] {
  const stray = [
    ...(grantType != null && authType !== "OAuth2" ? (["grantType"] as const) : []),
    ...(exchange != null && authType !== "UserEntraToken" ? (["exchange"] as const) : []),
  ];
  return stray.map((field) => ({
    param: `${at}.${field}`,
    message: `must be absent with authType ${authType}`,
  }));
}

/** A client of an app has no place in a connection of another kind, where its secret would be dropped unheard. */
function withClientFaults(read: ReadAuth, { oauth }: AuthDraft, authType: string, param: string): ReadAuth {
  const fields = (["clientId", "clientSecret", "privateKey"] as const).filter(
    (field) => oauth?.[field] != null,
  );
  const message = `must be absent with authType ${authType}`;
  return {
    ...read,
    faults: [...read.faults, ...fields.map((field) => ({ param: `${param}.${field}`, message }))],
  };
}

function readOAuthAuth(draft: OAuthDraft, context: AuthContext): ReadAuth {
  const { before, mode, target, checkTarget, checkReference, found, at } = context;
  const { box, ...read } = readOAuth(draft, {
    before: before?.auth.kind === "oauth" ? before.auth : null,
    mode,
    target,
    checkTarget,
    checkReference,
    found,
    nameOf: nameIn(at),
  });
  return { ...read, secrets: box };
}

function nameIn(at: string): NameOf {
  return (field) => (IN_CREDENTIALS.has(field) ? `${at}.credentials.${field}` : `${at}.${field}`);
}

const IN_CREDENTIALS = new Set<keyof OAuthDraft>(["clientId", "clientSecret", "privateKey"]);

function readKeys(
  keys: HeaderSecrets | null | undefined,
  { existing, at, checkReference }: AuthContext,
): ReadAuth {
  const param = `${at}.credentials.keys`;
  // Null counts as not given: it is what a reader got, and sends back.
  if (!keys && existing?.kind === "key") {
    return { auth: existing, secrets: { kind: "keep" }, question: null, faults: [] };
  }
  const headerNames = Object.keys(keys ?? {});
  const references = refsOf(keys ?? {});
  const isElsewhere = Object.keys(references).length > 0;
  const auth: ConnectionAuth = { kind: "key", headerNames, ...(isElsewhere && { references }) };
  if (!keys || headerNames.length === 0) {
    const message = 'is required with authType CustomKeys: {"Header-Name": "value"}';
    return { auth, secrets: { kind: "none" }, question: null, faults: [{ param, message }] };
  }
  return {
    auth,
    secrets: { kind: "headers", headers: keys },
    question: null,
    faults: headerSecretFaults(keys, { param, checkReference }),
  };
}

/** What a connection proves itself by, without secrets: two are equal where calls and grants of one are good for the other. */
export function placeOfAuth(auth: ConnectionAuth): string {
  switch (auth.kind) {
    case "none":
      return "none";
    case "key":
      return `key ${auth.headerNames
        .map((name) => name.toLowerCase())
        .toSorted()
        .join()}`;
    case "oauth":
      return `oauth ${placeOfOAuth(auth)}`;
    case "identity":
    case "user_token":
    case "client_credentials":
      return placeOfMachine(auth);
  }
}

export const AUTH_TYPES = [
  "None",
  "CustomKeys",
  "OAuth2",
  "ProjectManagedIdentity",
  "AgenticIdentityToken",
  "UserEntraToken",
] as const;

/** The ARM `authType` of an auth kind. */
export function authTypeOf(auth: ConnectionAuth): (typeof AUTH_TYPES)[number] {
  switch (auth.kind) {
    case "none":
      return "None";
    case "key":
      return "CustomKeys";
    case "oauth":
    case "client_credentials":
      return "OAuth2";
    case "identity":
      return auth.of === "project" ? "ProjectManagedIdentity" : "AgenticIdentityToken";
    case "user_token":
      return "UserEntraToken";
  }
}
