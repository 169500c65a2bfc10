import { type Connector, type OAuthApp, type OAuthAuth, type OAuthSource } from "./connection.ts";
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
import { merged } from "./oauth-draft-merge.ts";
import { type ClientBox, readClient, referencesOf } from "./oauth-client-rules.ts";
import { originsOf, readServer, typedServer } from "./oauth-server-rules.ts";
import type { CheckReference } from "./secret-references.ts";
import type { CheckTarget } from "./url-rules.ts";

/** What a draft comes to. `question`: ask it, and read the draft again with what was found. */
export type ReadOAuth = { auth: OAuthAuth; box: ClientBox; question: Question | null; faults: Fault[] };

export type OAuthContext = {
  /** The settings as they were. Null: there were none, or they were of another kind. */
  before: OAuthAuth | null;
  /** `change`: what the draft does not say stays as it was, secrets included. */
  mode: "replace" | "change";
  /** Null as long as the target itself is wrong. */
  target: string | null;
  checkTarget: CheckTarget;
  checkReference: CheckReference;
  found: Found | null;
  nameOf: NameOf;
};

/** The rules of an OAuth connection's own settings (DESIGN 9), pure. */
export function readOAuth(draft: OAuthDraft, context: OAuthContext): ReadOAuth {
  const { nameOf, checkTarget, before, mode } = context;
  const whole = before && mode === "change" ? merged(draft, before) : draft;
  const { overrides, faults: overrideFaults } = readOverrides(whole, nameOf);
  const common = [
    ...issuerFaults(whole.issuer, { param: nameOf("issuer"), checkTarget }),
    ...scopeFaults(whole.scopes, nameOf("scopes")),
    ...overrideFaults,
  ];
  const { source, box, question, faults } = readSource(whole, { ...context, given: draft });
  const scopes = whole.scopes && whole.scopes.length > 0 ? [...new Set(whole.scopes)] : null;
  return {
    auth: { kind: "oauth", source, scopes, overrides, ...referencesOf(box, before) },
    box,
    question: common.length + faults.length === 0 ? question : null,
    faults: [...faults, ...common],
  };
}

/** An app as a connector has it: the same rules, and always one with endpoints of its own. */
export function readApp(
  draft: OAuthDraft,
  context: Pick<OAuthContext, "mode" | "checkTarget" | "checkReference" | "found" | "nameOf"> & {
    before: Pick<Connector, "app" | "scopes" | "overrides"> | null;
  },
): Omit<ReadOAuth, "auth"> & { app: OAuthApp | null; auth: OAuthAuth } {
  const { before } = context;
  const read = readOAuth(
    { ...draft, connectorName: null },
    {
      ...context,
      target: null,
      before: before && {
        kind: "oauth",
        source: { kind: "custom", app: before.app },
        scopes: before.scopes,
        overrides: before.overrides,
      },
    },
  );
  const { source } = read.auth;
  if (source.kind === "custom") return { ...read, app: source.app };
  const faults = REQUIRED.filter((field) =>
    draft[field] === undefined ? before === null || context.mode === "replace" : draft[field] === null,
  )
    .map((field) => context.nameOf(field))
    .filter((param) => !read.faults.some((fault) => fault.param === param))
    .map((param) => ({ param, message: "is required" }));
  return { ...read, app: null, question: null, faults: [...faults, ...read.faults] };
}

/** What a grant at these settings is made for; when it moves, grants of before are nothing any more. */
export function placeOfOAuth({ source, overrides }: OAuthAuth): string {
  const { resource } = overrides;
  switch (source.kind) {
    case "connector":
      return JSON.stringify([source.kind, source.connector, resource]);
    case "discovery":
      return JSON.stringify([source.kind, source.clientId, source.issuer, resource]);
    case "custom":
      return JSON.stringify([source.kind, placeOfApp(source.app), resource]);
  }
}

export function placeOfApp({ clientId, server }: OAuthApp): string {
  const { issuer, authorizationEndpoint, tokenEndpoint, refreshEndpoint, revocationEndpoint } = server;
  return JSON.stringify([
    clientId,
    issuer,
    authorizationEndpoint,
    tokenEndpoint,
    refreshEndpoint,
    revocationEndpoint,
  ]);
}

type Source = { source: OAuthSource; box: ClientBox; question: Question | null; faults: Fault[] };
type SourceContext = OAuthContext & { given: OAuthDraft };

function readSource(whole: OAuthDraft, context: SourceContext): Source {
  if (whole.connectorName != null) return readConnectorSource(whole, whole.connectorName, context.nameOf);
  const isCustom = ENDPOINTS.some((field) => whole[field] != null);
  return isCustom ? readCustom(whole, context) : readDiscovery(whole, context);
}

function readConnectorSource(whole: OAuthDraft, connector: string, nameOf: NameOf): Source {
  const faults = [...APP_FIELDS, ...ENDPOINTS, ...CLIENT_FIELDS, "issuer" as const]
    .filter((field) => isGiven(whole[field]))
    .map((field) => ({ param: nameOf(field), message: "must be absent with connectorName" }));
  return { source: { kind: "connector", connector }, box: { kind: "none" }, question: null, faults };
}

function readCustom(whole: OAuthDraft, context: SourceContext): Source {
  const { nameOf, mode, found, before } = context;
  const known = before?.source.kind === "custom" ? before.source.app : null;
  const held = mode === "change" ? known : null;
  const client = readClient(whole, { ...context, held });
  const faults = [
    ...REQUIRED.filter((field) => whole[field] == null).map((field) => ({
      param: nameOf(field),
      message: "is required for an app of your own",
    })),
    ...appFaults(whole, context),
    ...client.faults,
  ];
  const typed = typedServer(whole);
  if (!typed || faults.length > 0) return { source: NO_SOURCE, box: client.box, question: null, faults };
  const { server, question, ...judged } = readServer(typed, {
    before: known,
    mayKeep: mode === "change",
    found,
    nameOf,
  });
  const { provider = null } = whole;
  const app = {
    clientId: whole.clientId ?? "",
    clientAuth: client.auth,
    server,
    provider,
    ...paramsOf(whole),
  };
  const stray = client.box.kind === "keep" && (!held || hasStrayed(held, app));
  if (stray) faults.push(strayFault(client.secretName));
  return {
    source: { kind: "custom", app },
    box: client.box,
    question,
    faults: [...faults, ...judged.faults],
  };
}

/** What stands for a source that cannot be read, beside the faults that say why. */
const NO_SOURCE: OAuthSource = { kind: "discovery", issuer: null, clientId: null, clientAuth: null };

function readDiscovery(whole: OAuthDraft, context: SourceContext): Source {
  const { nameOf, found, target } = context;
  const faults: Fault[] = APP_FIELDS.filter((field) => isGiven(whole[field])).map((field) => ({
    param: nameOf(field),
    message: "is for an app of your own: it needs authorizationUrl and tokenUrl",
  }));
  const clientId = whole.clientId ?? null;
  if (clientId === null) {
    const stray = CLIENT_FIELDS.filter((field) => field !== "clientId" && isGiven(whole[field]));
    faults.push(...stray.map((field) => ({ param: nameOf(field), message: "needs a clientId beside it" })));
    const source = { kind: "discovery", issuer: whole.issuer ?? null, clientId, clientAuth: null } as const;
    return { source, box: { kind: "none" }, question: null, faults };
  }
  const { before, mode } = context;
  const known = mode === "change" && before?.source.kind === "discovery" ? before.source : null;
  const client = readClient(whole, { ...context, held: known });
  const issuer = whole.issuer ?? guardOf(found);
  if (found?.kind === "guards" && issuer === null) faults.push(noGuardFault(found, nameOf));
  const source = { kind: "discovery", issuer, clientId, clientAuth: client.auth } as const;
  // Its secret goes to whatever the issuer's metadata name, so the issuer itself must be the one that it was given for.
  const stray =
    client.box.kind === "keep" && (!known || known.issuer !== issuer || known.clientId !== clientId);
  return {
    source,
    box: client.box,
    question: issuer === null && !found && target !== null ? { kind: "guards", target } : null,
    faults: [...faults, ...client.faults, ...(stray ? [strayFault(client.secretName)] : [])],
  };
}

function guardOf(found: Found | null): string | null {
  const [only, ...others] = found?.kind === "guards" ? found.issuers : [];
  return only !== undefined && others.length === 0 ? only : null;
}

/** A7: a client of the admin's own is for one authorization server, and which one is not for the MCP server to say later. */
function noGuardFault({ issuers, why }: Found & { kind: "guards" }, nameOf: NameOf): Fault {
  const param = nameOf("issuer");
  if (issuers.length > 1) {
    return { param, message: `must be given: the server names several, ${issuers.slice(0, 10).join(", ")}` };
  }
  return { param, message: `must be given: it cannot be found (${why ?? "the server names none"})` };
}

/** An admin may not read secrets, and must not be able to have them sent to a server of the own choice either. */
function hasStrayed(before: OAuthApp, after: OAuthApp): boolean {
  const origins = originsOf(before.server);
  return (
    before.clientId !== after.clientId || originsOf(after.server).some((origin) => !origins.includes(origin))
  );
}

function strayFault(param: string): Fault {
  return { param, message: "must be given again when the client, or the origin of its server, changes" };
}

function isGiven(value: OAuthDraft[keyof OAuthDraft]): boolean {
  return value != null && !(typeof value === "object" && Object.keys(value).length === 0);
}

const REQUIRED = ["clientId", "authorizationUrl", "tokenUrl"] as const;
const ENDPOINTS = ["authorizationUrl", "tokenUrl", "refreshUrl", "revocationUrl"] as const;
const CLIENT_FIELDS = ["clientId", "clientSecret", "privateKey", "clientAuth"] as const;
const APP_FIELDS = ["authorizeParams", "tokenParams", "audience", "provider"] as const;
