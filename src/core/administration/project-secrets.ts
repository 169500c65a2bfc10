import { type Fault, invalid } from "../errors.ts";
import type { TokenIssuer } from "../issuers.ts";
import { isJsonObject, textMembers } from "../json.ts";
import type { World } from "../ports.ts";
import type { ModelUpstream, Project, SignInSettings } from "../project.ts";
import { readSecretValue, type SecretValue } from "../secret-references.ts";
import { projectSecretsAad } from "../storage.ts";
import type { IssuerChange } from "./issuer-rules.ts";
import { isSameUpstream, type ModelChange } from "./model-rules.ts";
import type { SignInChange } from "./sign-in-rules.ts";

/** What is sealed beside a project's settings. */
export type ProjectSecrets = {
  signIn: string | null;
  /** The secrets of our clients at issuers, by the issuer's name. */
  exchange: Readonly<Record<string, string>>;
  /** The keys of model upstreams, by the upstream's name. They may be kept elsewhere. */
  models: Readonly<Record<string, SecretValue>>;
};

const NO_SECRETS: ProjectSecrets = { signIn: null, exchange: {}, models: {} };

/** The secrets, and the version of the project that they are sealed for. Throws `unavailable`. */
export async function openSecrets(
  { store, sealer }: Pick<World, "store" | "sealer">,
  name: string,
): Promise<{ version: number | null; secrets: ProjectSecrets }> {
  const kept = await store.projects.secrets(name);
  if (!kept?.sealed) return { version: kept?.version ?? null, secrets: NO_SECRETS };
  const { version, sealed } = kept;
  const body: unknown = JSON.parse(await sealer.open(sealed, projectSecretsAad(name, version)));
  const { signIn = null } = textMembers(body);
  const exchange = isJsonObject(body) ? textMembers(body["exchange"]) : {};
  const models = isJsonObject(body) ? keysIn(body["models"]) : {};
  return { version, secrets: { signIn, exchange, models } };
}

function keysIn(value: unknown): Record<string, SecretValue> {
  if (!isJsonObject(value)) return {};
  const keys = Object.entries(value).flatMap(([name, held]) => {
    const key = readSecretValue(held);
    return key === null ? [] : [[name, key] as const];
  });
  return Object.fromEntries(keys);
}

/** Null: there are none to seal. */
export async function sealSecrets(
  { sealer }: Pick<World, "sealer">,
  secrets: ProjectSecrets,
  { name, version }: Pick<Project, "name" | "version">,
): Promise<Uint8Array | null> {
  const { signIn, exchange, models } = secrets;
  const isNone = signIn === null && Object.keys({ ...exchange, ...models }).length === 0;
  return isNone ? null : sealer.seal(JSON.stringify(secrets), projectSecretsAad(name, version));
}

/**
 * The sign-in's client secret after a change. A kept one stays with the issuer and client that it was given for; a
 * replacement keeps none. Throws `invalid` when there was one and nobody says what becomes of it.
 */
export function signInSecretAfter(change: {
  before: SignInSettings | null;
  held: string | null;
  given: SignInChange | null | undefined;
  mode: "replace" | "change";
}): string | null {
  const { before, held, given, mode } = change;
  if (given === undefined) return mode === "change" ? held : null;
  if (given === null) return null;
  if (given.clientSecret !== undefined) return given.clientSecret;
  if (held === null) return null;
  const isSame = before?.issuer === given.issuer && before.clientId === given.clientId;
  if (isSame && mode === "change") return held;
  const message = "must be given again, or null for a public client";
  throw invalid({ param: "signIn.clientSecret", message });
}

/**
 * The secrets of our clients at issuers after a change. A kept one stays with the issuer, the client and the token endpoint
 * that it was given for; a replacement keeps none. Throws `invalid` when there was one and nobody says what becomes of it.
 */
export function exchangeSecretsAfter(change: {
  before: readonly TokenIssuer[];
  held: Readonly<Record<string, string>>;
  given: readonly IssuerChange[] | undefined;
  mode: "replace" | "change";
}): Record<string, string> {
  const { before, held, given, mode } = change;
  if (given === undefined) return mode === "change" ? { ...held } : {};
  const faults: Fault[] = [];
  const secrets: [string, string][] = [];
  for (const [at, entry] of given.entries()) {
    if (entry.type !== "oidc" || entry.exchange === null) continue;
    const { clientSecret } = entry.exchange;
    const kept = Object.hasOwn(held, entry.name) ? held[entry.name] : undefined;
    const secret = clientSecret === undefined ? kept : clientSecret;
    if (secret == null) continue;
    const isKept = clientSecret === undefined;
    if (isKept && (mode === "replace" || !before.some((one) => isSameClient(one, entry)))) {
      const message = "must be given again, or null for a public client";
      faults.push({ param: `issuers[${at}].exchange.clientSecret`, message });
    }
    secrets.push([entry.name, secret]);
  }
  if (faults.length > 0) throw invalid(...faults);
  return Object.fromEntries(secrets);
}

/**
 * The keys of model upstreams after a change. A kept one stays with the name and the base URL that it was given for; a
 * replacement keeps none. Throws `invalid` when there was one and nobody says what becomes of it.
 */
export function modelKeysAfter(change: {
  before: readonly ModelUpstream[];
  held: Readonly<Record<string, SecretValue>>;
  given: readonly ModelChange[] | undefined;
  mode: "replace" | "change";
}): Record<string, SecretValue> {
  const { before, held, given, mode } = change;
  if (given === undefined) return mode === "change" ? { ...held } : {};
  const faults: Fault[] = [];
  const keys: [string, SecretValue][] = [];
  for (const [at, entry] of given.entries()) {
    const { name, apiKey } = entry;
    const kept = Object.hasOwn(held, name) ? held[name] : undefined;
    const key = apiKey === undefined ? kept : apiKey;
    if (key == null) continue;
    const isSame = before.some((one) => isSameUpstream(one, entry));
    if (apiKey === undefined && (mode === "replace" || !isSame)) {
      const message = "must be given again, or null for an upstream without one";
      faults.push({ param: `models[${at}].apiKey`, message });
    }
    keys.push([name, key]);
  }
  if (faults.length > 0) throw invalid(...faults);
  return Object.fromEntries(keys);
}

/** Whether a secret that was given for `before` goes to nobody else under `after`. */
function isSameClient(before: TokenIssuer, after: IssuerChange): boolean {
  if (before.type !== "oidc" || after.type !== "oidc") return false;
  return (
    before.name === after.name &&
    before.issuer === after.issuer &&
    before.exchange?.clientId === after.exchange?.clientId &&
    before.exchange?.tokenEndpoint === after.exchange?.tokenEndpoint
  );
}
