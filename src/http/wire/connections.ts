import * as z from "zod";
import { type Connection, type HeaderValues, MAX_TIMEOUT_MS, MIN_TIMEOUT_MS } from "../../core/connection.ts";
import { AUTH_TYPES, authTypeOf } from "../../core/connection-auth-rules.ts";
import type { ConnectionDraft } from "../../core/connection-rules.ts";
import type { HeaderSecrets } from "../../core/secret-references.ts";
import { flag, listOf, pageQuery, strings, writeMoment } from "./common.ts";
import { writeMachine } from "./machine-auth.ts";
import { nearMiss } from "./near-miss.ts";
import { appFields, oauthFields, readOAuthDraft, secretFields, writeOAuth, writtenOAuth } from "./oauth.ts";
import { approvalRule, toolFilter, writeApprovalRule, writeToolFilter } from "./policy.ts";
import { secretValues } from "./secrets.ts";
import { jsonObject, type Shape } from "./shape.ts";

/** Fields of ours that Foundry does not have. A misspelt one must not pass for one that is set. */
const policy = {
  requireApproval: approvalRule.optional(),
  allowedTools: toolFilter.optional(),
  approvers: z.enum(["caller", "role"]).nullish(),
  trustAnnotations: z.boolean().nullish(),
  timeoutMs: z.number().meta({ type: "integer", minimum: MIN_TIMEOUT_MS, maximum: MAX_TIMEOUT_MS }).nullish(),
};

const secrets = { keys: secretValues.nullish(), ...secretFields };

/** Foundry's clients send other fields here, too. One that is nearly ours, or belongs beside these, is told. */
const credentials = z
  .looseObject(secrets)
  .superRefine((given, context) => {
    for (const name of Object.keys(given)) {
      // `key` is that of an auth kind which the rules refuse with better words.
      if (Object.hasOwn(secrets, name) || name === "key") continue;
      const meant = nearMiss(name, Object.keys(secrets));
      const isOutside = Object.hasOwn(appFields, name);
      if (!isOutside && meant === null) continue;
      const message = isOutside ? "belongs beside credentials, not into them" : didYouMean(meant);
      context.addIssue({ code: "custom", path: [name], message });
    }
  })
  .transform(({ keys, clientId, clientSecret, privateKey }) => ({
    keys,
    clientId,
    clientSecret,
    privateKey,
  }));

const didYouMean = (name: string | null) => `is not known here; did you mean ${name}?`;

/**
 * The ARM `properties` of a connection (foundry-wire 7.1) and ours beside them. Foundry's clients send many more, which
 * are ignored.
 */
const arm = {
  // A string: the rules tell kinds of later versions from kinds that there are not.
  authType: z.string().meta({ enum: AUTH_TYPES }).optional(),
  category: z.string().optional(),
  target: z.string().optional(),
  credentials: credentials.nullish(),
  metadata: strings.nullish(),
  isDefault: z.boolean().nullish(),
};

const oauth = {
  ...appFields,
  ...oauthFields,
  /** With `OAuth2`: whether people are asked, or one client serves all. */
  grantType: z.enum(["authorization_code", "client_credentials"]).nullish(),
  /** With `UserEntraToken`: an assertion of the person's issuer, for the server's own authorization server. */
  exchange: z.enum(["id-jag"]).nullish(),
};

const properties = z.looseObject({ ...arm, ...oauth, ...policy }).superRefine((given, context) => {
  const ours = Object.keys({ ...oauth, ...policy });
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(arm, name)) continue;
    const isSecret = !Object.hasOwn(oauth, name) && Object.hasOwn(secretFields, name);
    const meant = nearMiss(name, ours);
    if (!isSecret && meant === null) continue;
    const message = isSecret ? "belongs into credentials" : didYouMean(meant);
    context.addIssue({ code: "custom", path: [name], message });
  }
});

/** `{"properties":{…}}` of `PATCH`. */
export const connectionChange = writeOf(properties);

/** `PUT` is read alike: what is missing is told together with what else the rules find. */
export const connectionReplacement = writeOf(properties.meta({ required: ["authType", "target"] }));

function writeOf(shape: typeof properties): Shape<ConnectionDraft> {
  return z.object({ properties: shape }).transform(({ properties: given }) => ({
    authType: given.authType,
    category: given.category,
    target: given.target,
    keys: keysOf(given.credentials),
    grantType: given.grantType,
    exchange: given.exchange,
    oauth: readOAuthDraft({ ...given, ...given.credentials, clientId: clientIdOf(given) }),
    metadata: given.metadata ?? undefined,
    isDefault: given.isDefault ?? undefined,
    requireApproval: given.requireApproval,
    allowedTools: given.allowedTools,
    approvers: given.approvers ?? undefined,
    trustAnnotations: given.trustAnnotations ?? undefined,
    timeoutMs: given.timeoutMs ?? undefined,
  }));
}

/** In `credentials`, or where an answer shows it: somebody sends that back. */
function clientIdOf(given: z.infer<typeof properties>): string | null | undefined {
  const inside = given.credentials?.clientId;
  return inside === undefined ? given.clientId : inside;
}

function keysOf(credentials: { keys?: HeaderSecrets | null | undefined } | null | undefined) {
  return credentials ? (credentials.keys ?? null) : credentials;
}

export const connectionQuery = pageQuery.extend({
  connectionType: z.string().optional(),
  defaultConnection: flag.optional(),
  target: z.string().optional(),
});

/** Foundry's SDK and its CLI disagree about the name, so both mean our one kind. */
export function isRemoteTool(connectionType: string): boolean {
  return connectionType === "RemoteTool" || connectionType === "RemoteTool_Preview";
}

const propertiesBody = z.object({
  authType: z.string(),
  category: z.literal("RemoteTool"),
  target: z.string(),
  credentials: z.object({ type: z.string() }).nullable(),
  /** Names of the headers that are sent; their values never come back. */
  headerNames: z.array(z.string()),
  /** Where secrets are kept elsewhere: of headers by their names, and `clientSecret`. */
  references: strings.optional(),
  metadata: strings,
  isDefault: z.boolean(),
  requireApproval: z.union([z.string(), jsonObject]).nullable(),
  allowedTools: jsonObject.nullable(),
  approvers: z.enum(["caller", "role"]),
  trustAnnotations: z.boolean(),
  timeoutMs: z.number(),
  group: z.literal("GenericProtocol"),
  grantType: z.literal("client_credentials").optional(),
  exchange: z.literal("id-jag").nullable().optional(),
  ...writtenOAuth.partial().shape,
});

/** The flat object of the data plane, with a credential type that is never null (foundry-wire H3), and `properties`. */
export const connectionBody = z.object({
  name: z.string(),
  id: z.string(),
  type: z.literal("RemoteTool"),
  target: z.string(),
  isDefault: z.boolean(),
  credentials: z.looseObject({ type: z.string() }),
  metadata: strings,
  /** Where the authorization server sends people back to. Of OAuth connections alone. */
  redirectUrl: z.string().nullable().optional(),
  properties: propertiesBody,
});

export const connectionList = listOf(connectionBody);

/** The management resource: secrets are null there, not `{type}`. */
export const armConnectionBody = z.object({
  id: z.string(),
  name: z.string(),
  type: z.literal("Microsoft.CognitiveServices/accounts/projects/connections"),
  systemData: z.object({ createdAt: z.string(), lastModifiedAt: z.string() }),
  properties: propertiesBody,
});

export const armConnectionList = listOf(armConnectionBody);

/** Subscription, group and account mean nothing to us, so every id of ours names the same ones. */
const OUR_ACCOUNT = armAccount({
  subscription: "00000000-0000-0000-0000-000000000000",
  group: "consentry",
  account: "consentry",
});

export function armAccount(names: { subscription: string; group: string; account: string }): string {
  const { subscription, group, account } = names;
  return `/subscriptions/${subscription}/resourceGroups/${group}/providers/Microsoft.CognitiveServices/accounts/${account}`;
}

function armId(account: string, { project, name }: Connection): string {
  return `${account}/projects/${project}/connections/${name}`;
}

/** A connection with what it is not the place to look up. `redirectUrl` null: it has none. */
export type ShownConnection = { connection: Connection; redirectUrl: string | null };

export function writeConnection(
  shown: ShownConnection,
  secrets: HeaderValues | null = null,
): z.infer<typeof connectionBody> {
  const { connection, redirectUrl } = shown;
  const { name, target, isDefault } = connection;
  const type = authTypeOf(connection.auth);
  return {
    name,
    id: armId(OUR_ACCOUNT, connection),
    type: "RemoteTool",
    target,
    isDefault,
    credentials: { ...secrets, type },
    metadata: metadataOf(connection),
    ...(connection.auth.kind === "oauth" && { redirectUrl }),
    properties: { ...propertiesOf(shown), credentials: { type } },
  };
}

export function writeArmConnection(
  shown: ShownConnection,
  account: string,
): z.infer<typeof armConnectionBody> {
  const { connection } = shown;
  return {
    id: armId(account, connection),
    name: connection.name,
    type: "Microsoft.CognitiveServices/accounts/projects/connections",
    systemData: {
      createdAt: writeMoment(connection.createdAt),
      lastModifiedAt: writeMoment(connection.updatedAt),
    },
    properties: { ...propertiesOf(shown), credentials: null },
  };
}

function propertiesOf({ connection, redirectUrl }: ShownConnection) {
  const { auth, target, isDefault, requireApproval, allowedTools } = connection;
  const { approvers, trustAnnotations, timeoutMs } = connection;
  return {
    authType: authTypeOf(auth),
    category: "RemoteTool" as const,
    target,
    headerNames: auth.kind === "key" ? auth.headerNames : [],
    ...referencesOf(auth),
    metadata: metadataOf(connection),
    isDefault,
    requireApproval: requireApproval && writeApprovalRule(requireApproval),
    allowedTools: allowedTools && writeToolFilter(allowedTools),
    approvers,
    trustAnnotations,
    timeoutMs,
    group: "GenericProtocol" as const,
    ...(auth.kind === "oauth" && { ...writeOAuth(auth), redirectUrl }),
    ...writeMachine(auth),
  };
}

/** Where secrets are kept that are not here: the admin's own words, and no secrets. */
function referencesOf(auth: Connection["auth"]): { references?: Record<string, string> } {
  const references = auth.kind === "none" || auth.kind === "identity" ? undefined : auth.references;
  return references ? { references } : {};
}

/** Foundry's clients look for the audience there, too (foundry-wire 15). */
function metadataOf({ auth, metadata }: Connection): Record<string, string> {
  return auth.kind === "identity" || auth.kind === "user_token"
    ? { ...metadata, audience: auth.audience }
    : metadata;
}
