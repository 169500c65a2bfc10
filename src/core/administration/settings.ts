import { auditEntry, type Context } from "../context.ts";
import { BrokerError, type Fault, invalid } from "../errors.ts";
import type { ApprovalRule } from "../policy.ts";
import type { World } from "../ports.ts";
import { DEFAULT_SETTINGS, type Project, type Settings } from "../project.ts";
import type { CheckReference } from "../secret-references.ts";
import { type CheckTarget, isHost } from "../url-rules.ts";
import { tryUntilWon } from "./attempts.ts";
import { type IssuerChange, issuerEntry, issuersFaults, signInMeetsIssuers } from "./issuer-rules.ts";
import { type ModelChange, modelEntry, modelsFaults } from "./model-rules.ts";
import {
  exchangeSecretsAfter,
  modelKeysAfter,
  openSecrets,
  sealSecrets,
  type ProjectSecrets,
  signInSecretAfter,
} from "./project-secrets.ts";
import { assertedOf, type SignInChange, signInFaults, signInOf } from "./sign-in-rules.ts";

/** Some settings. Undefined: not given. */
export type SettingsChange = {
  users?:
    | { fromBody?: boolean | undefined; assertedAs?: { issuer: string; claim: string } | null | undefined }
    | undefined;
  defaultRequireApproval?: ApprovalRule | null | undefined;
  approvals?: { expireAfterMs?: number | undefined } | undefined;
  responseRetentionDays?: number | null | undefined;
  conversationRetentionDays?: number | null | undefined;
  adhocServers?: Settings["adhocServers"] | undefined;
  consentProof?: Settings["consentProof"] | undefined;
  signIn?: SignInChange | null | undefined;
  /** All of them: an entry that is left out is gone. */
  issuers?: IssuerChange[] | undefined;
  /** All of them: an entry that is left out is gone, and its key with it. */
  models?: ModelChange[] | undefined;
  consentPresentation?: Settings["consentPresentation"] | undefined;
  consentStatus?: Settings["consentStatus"] | undefined;
  consentEvent?: boolean | undefined;
};

/** What settings are judged by beside themselves. `at`: where they stand in the caller's body. */
export type SettingsRules = {
  checkTarget: CheckTarget;
  /** What is lent to the project. */
  checkReference: CheckReference;
  /** Whether the project may let the first browser that opens a link be the person (DESIGN 6, possession). */
  mayPossess: boolean;
  /** Our own public URL, which is nobody's issuer, and whether all of this is on one machine. */
  publicUrl: string;
  local: boolean;
  at?: string;
};

/** The settings with a change applied; secrets are no part of them. Throws `invalid` with every fault, under `at`. */
export function changeSettings(before: Settings, change: SettingsChange, rules: SettingsRules): Settings {
  const asserted = orBefore(change.users?.assertedAs, before.users.assertedAs);
  const signIn = change.signIn === undefined ? before.signIn : change.signIn && signInOf(change.signIn);
  const issuers = change.issuers?.map(issuerEntry) ?? before.issuers;
  const secret = change.signIn?.clientSecret ?? null;
  const faults = [
    ...signInFaults({ signIn, issuers, asserted, secret }, rules.checkTarget),
    ...(change.issuers ? issuersFaults(change.issuers, rules) : []),
    ...signInMeetsIssuers(issuers, signIn),
    ...(change.models ? modelsFaults(change.models, rules) : []),
  ];
  const settings: Settings = {
    users: {
      fromBody: change.users?.fromBody ?? before.users.fromBody,
      assertedAs: asserted && assertedOf(asserted),
    },
    defaultRequireApproval: orBefore(change.defaultRequireApproval, before.defaultRequireApproval),
    approvals: { expireAfterMs: change.approvals?.expireAfterMs ?? before.approvals.expireAfterMs },
    responseRetentionDays: orBefore(change.responseRetentionDays, before.responseRetentionDays),
    conversationRetentionDays: orBefore(change.conversationRetentionDays, before.conversationRetentionDays),
    adhocServers: orBefore(change.adhocServers, before.adhocServers),
    consentProof: orBefore(change.consentProof, before.consentProof),
    signIn,
    issuers,
    models: change.models?.map((entry) => modelEntry(entry, before.models)) ?? before.models,
    consentPresentation: change.consentPresentation ?? before.consentPresentation,
    consentStatus: change.consentStatus ?? before.consentStatus,
    consentEvent: change.consentEvent ?? before.consentEvent,
  };
  faults.push(...faultsOf(settings), ...proofFaults(change, settings, rules));
  const { at = "" } = rules;
  if (faults.length === 0) return settings;
  throw invalid(
    ...faults.map(({ param, message }) => ({ param: at === "" ? param : `${at}.${param}`, message })),
  );
}

/**
 * Writes the settings: `replace` starts from the defaults, `change` from what is there. Secrets beside them are sealed for
 * the version after the write. Throws `invalid`, `not_found`, `changed_meanwhile`.
 */
export async function writeSettings(
  world: World,
  context: Omit<Context, "signal" | "userToken">,
  change: SettingsChange,
  { mode, checkTarget }: { mode: "replace" | "change"; checkTarget: CheckTarget },
): Promise<Settings> {
  const { name } = context.project;
  const rules = settingsRules(world, name, checkTarget);
  const written = await tryUntilWon({ what: "project", name }, async () => {
    const project = await world.store.projects.get(name);
    if (!project) throw new BrokerError("not_found", { what: "project", name });
    const base = mode === "replace" ? DEFAULT_SETTINGS : project.settings;
    const settings = changeSettings(base, change, rules);
    const { version, secrets: held } = await openSecrets(world, name);
    if (version !== project.version) return null;
    const secrets: ProjectSecrets = {
      signIn: signInSecretAfter({
        before: project.settings.signIn,
        held: held.signIn,
        given: change.signIn,
        mode,
      }),
      exchange: exchangeSecretsAfter({
        before: project.settings.issuers,
        held: held.exchange,
        given: change.issuers,
        mode,
      }),
      models: modelKeysAfter({
        before: project.settings.models,
        held: held.models,
        given: change.models,
        mode,
      }),
    };
    const sealed = await sealSecrets(world, secrets, { name, version: project.version + 1 });
    const entry = auditEntry(world, context, "settings_changed", {
      detail: {
        fields: changedFields(project.settings, settings).join(","),
        secretsChanged: JSON.stringify(secrets) !== JSON.stringify(held),
      },
    });
    return world.store.projects.updateSettings({ name, version: project.version, settings, sealed }, [entry]);
  });
  return written.settings;
}

/** The client secret of the project's sign-in. Null: it is a public client. Throws `unavailable`. */
export async function readSignInSecret(
  world: World,
  { name }: Pick<Project, "name">,
): Promise<string | null> {
  return (await openSecrets(world, name)).secrets.signIn;
}

/**
 * The client secret of the project's exchange at one of its issuers (RFC 8693). Null: it is a public client, or there is no such
 * issuer. `version`: of the settings that it is for. Throws `unavailable`.
 */
export async function readExchangeSecret(
  world: World,
  { name }: Pick<Project, "name">,
  issuerName: string,
): Promise<{ version: number | null; clientSecret: string | null }> {
  const { version, secrets } = await openSecrets(world, name);
  const { exchange } = secrets;
  const clientSecret = Object.hasOwn(exchange, issuerName) ? (exchange[issuerName] ?? null) : null;
  return { version, clientSecret };
}

export function settingsRules(world: World, project: string, checkTarget: CheckTarget): SettingsRules {
  const { publicUrl, local } = world;
  const checkReference = (ref: string) => world.references.fault(project, ref);
  return { checkTarget, checkReference, mayPossess: mayPossess(world, project), publicUrl, local };
}

function mayPossess({ local, consent }: Pick<World, "local" | "consent">, project: string): boolean {
  return local || consent.allowPossession.includes(project);
}

function orBefore<T>(given: T | undefined, before: T): T {
  return given === undefined ? before : given;
}

// Whoever adds a setting is told to add it here: the audit says what has changed.
const EVERY_SETTING: Record<keyof Settings, true> = {
  users: true,
  defaultRequireApproval: true,
  approvals: true,
  responseRetentionDays: true,
  conversationRetentionDays: true,
  adhocServers: true,
  consentProof: true,
  signIn: true,
  issuers: true,
  models: true,
  consentPresentation: true,
  consentStatus: true,
  consentEvent: true,
};
const SETTINGS = Object.keys(EVERY_SETTING) as (keyof Settings)[];

function changedFields(before: Settings, after: Settings): string[] {
  return SETTINGS.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}

/** What stands there already is not judged again: a change of something else must not fail for it. */
function proofFaults(
  { consentProof }: SettingsChange,
  { signIn }: Settings,
  { mayPossess: isAllowed }: SettingsRules,
): Fault[] {
  const param = "consentProof";
  if (consentProof === "sign-in" && signIn === null) {
    return [{ param, message: "sign-in needs an OpenID provider: set signIn, too, in this body or before" }];
  }
  if (consentProof !== "possession" || isAllowed) return [];
  const message =
    "possession proves little beyond this machine: the operator must name the project in CONSENTRY_ALLOW_POSSESSION";
  return [{ param, message }];
}

function faultsOf(settings: Settings): Fault[] {
  const { approvals, adhocServers } = settings;
  const faults = (["responseRetentionDays", "conversationRetentionDays"] as const).flatMap(
    (param): Fault[] => {
      const days = settings[param];
      if (days === null || (Number.isInteger(days) && days >= 1 && days <= MAX_RETENTION_DAYS)) return [];
      return [{ param, message: `must be a whole number of days from 1 to ${MAX_RETENTION_DAYS}, or null` }];
    },
  );
  const { expireAfterMs } = approvals;
  if (!Number.isInteger(expireAfterMs) || expireAfterMs < MIN_EXPIRY_MS || expireAfterMs > MAX_EXPIRY_MS) {
    const message = `must be a whole number from ${MIN_EXPIRY_MS} to ${MAX_EXPIRY_MS}`;
    faults.push({ param: "approvals.expireAfterMs", message });
  }
  if (!Array.isArray(adhocServers)) return faults;
  if (adhocServers.length > MAX_HOSTS) {
    faults.push({ param: "adhocServers", message: `must have at most ${MAX_HOSTS} hosts` });
  }
  const wrong = adhocServers.flatMap((host, at) => (isHost(host) ? [] : [at]));
  const message = "must be a host as it stands in a URL: example.com or example.com:8443";
  return [...faults, ...wrong.map((at) => ({ param: `adhocServers[${at}]`, message }))];
}

const MIN_EXPIRY_MS = 60_000;
/** How long a held call can wait for its decision. */
export const MAX_EXPIRY_MS = 30 * 24 * 60 * 60_000;
const MAX_HOSTS = 200;
const MAX_RETENTION_DAYS = 3_650;
