import { CONNECTORS } from "../core/secret-references.ts";
import type { SecretId } from "./secret-ids.ts";
import { ENV_NAME, isNeverLent, isPlainPath, parsePlace, type Place } from "./secret-places.ts";

/** What the operator lends to whom (`CONSENTRY_SECRET_SOURCES`). */
export type SecretSources = {
  /** The place of a reference that this project may use. `why`: that it may not, or that it is none, as the end of a sentence. */
  lent: (project: string, ref: string) => Lent | { ok: false; why: string };
  /** The vaults that may be asked at all. */
  vaults: string[];
};

/**
 * What the broker itself stands on, beside what `isNeverLent` knows by its name. Its files are judged where they are read, for links
 * may lead to them.
 */
export type OwnSecrets = {
  variables: readonly string[];
  vaultSecrets: readonly Pick<SecretId, "vault" | "name">[];
};

/** `within`: the folder that a file must really be in, wherever links lead. */
export type Lent = { ok: true; place: Place; within: string | null };

/** The entries that cannot be read, each with what would be right. */
export class SecretSourcesError extends Error {
  readonly faults: { entry: string; message: string }[];
  constructor(faults: { entry: string; message: string }[]) {
    super(faults.map(({ entry, message }) => `"${entry}" ${message}`).join("; "));
    this.name = "SecretSourcesError";
    this.faults = faults;
  }
}

/**
 * Reads a comma list of `project=pattern`. `*` is every project and the operator's connectors, `@connectors` are the connectors
 * alone (core knows them as the project ""). Patterns: a vault, `keyvault:https://{vault}`, all of it or `/secrets/{name}` or
 * `/secrets/{prefix}*`; `env:{NAME}` or `env:{PREFIX}*`; `file:{path}` or `file:{folder}/*`. Empty text lends nothing, and no
 * pattern what is `own`.
 *
 * Throws `SecretSourcesError` with every fault.
 */
export function parseSecretSources(text: string, own: OwnSecrets = NO_SECRETS): SecretSources {
  const entries = text
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");
  const read = entries.map((entry) => ({ entry, rule: readRule(entry) }));
  const faults = read.flatMap(({ entry, rule }) =>
    typeof rule === "string" ? [{ entry, message: rule }] : [],
  );
  if (faults.length > 0) throw new SecretSourcesError(faults);
  const rules = read.flatMap(({ rule }) => (typeof rule === "string" ? [] : [rule]));
  return {
    lent: (project, ref) => {
      const place = parsePlace(ref);
      if (!place) return { ok: false, why: FORMS };
      if (isOwn(place, own))
        return { ok: false, why: "names a secret of the broker's own, which is never lent" };
      for (const rule of rules) {
        if (rule.project !== EVERYBODY && rule.project !== project) continue;
        const lent = matched(rule.pattern, place);
        if (lent) return lent;
      }
      const whom = project === CONNECTORS ? "connectors" : "this project";
      return { ok: false, why: `is not lent to ${whom}: an operator can, with CONSENTRY_SECRET_SOURCES` };
    },
    vaults: [
      ...new Set(rules.flatMap(({ pattern }) => (pattern.kind === "keyvault" ? [pattern.vault] : []))),
    ],
  };
}

const EVERYBODY = "*";
const NO_SECRETS: OwnSecrets = { variables: [], vaultSecrets: [] };
const FORMS = "must be keyvault:https://<vault>/secrets/<name>, env:<NAME> or file:<absolute path>";

function isOwn(place: Place, own: OwnSecrets): boolean {
  switch (place.kind) {
    case "keyvault": {
      const { vault, name } = place.secret;
      return own.vaultSecrets.some((secret) => secret.vault === vault && isSameName(secret.name, name));
    }
    case "env":
      return isNeverLent(place.name) || own.variables.some((name) => isSameName(name, place.name));
    case "file":
      return false;
  }
}

/** Key Vault takes names in any case, and so do the variables of some systems. */
function isSameName(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

/** `name`: the whole of it, or what it begins with when `open`. */
type Pattern =
  | { kind: "keyvault"; vault: string; name: string; open: boolean }
  | { kind: "env"; name: string; open: boolean }
  /** `open`: the files that are directly in this folder. */
  | { kind: "file"; path: string; open: boolean };

type Rule = { project: string; pattern: Pattern };

function matched(pattern: Pattern, place: Place): Lent | null {
  switch (pattern.kind) {
    case "keyvault": {
      if (place.kind !== "keyvault" || place.secret.vault !== pattern.vault) return null;
      return fits(pattern, place.secret.name) ? { ok: true, place, within: null } : null;
    }
    case "env":
      return place.kind === "env" && fits(pattern, place.name) ? { ok: true, place, within: null } : null;
    case "file": {
      if (place.kind !== "file") return null;
      if (!pattern.open) return place.path === pattern.path ? { ok: true, place, within: null } : null;
      const folder = place.path.slice(0, place.path.lastIndexOf("/"));
      return folder === pattern.path ? { ok: true, place, within: folder } : null;
    }
  }
}

function fits({ name, open }: { name: string; open: boolean }, given: string): boolean {
  return open ? given.startsWith(name) : given === name;
}

/** A text says what is wrong. */
function readRule(entry: string): Rule | string {
  const equals = entry.indexOf("=");
  if (equals < 0) return "must be project=pattern";
  const who = entry.slice(0, equals).trim();
  if (who !== EVERYBODY && who !== "@connectors" && !/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/.test(who))
    return "must begin with the name of a project, * or @connectors";
  const pattern = readPattern(entry.slice(equals + 1).trim());
  if (typeof pattern === "string") return pattern;
  return { project: who === "@connectors" ? CONNECTORS : who, pattern };
}

function readPattern(text: string): Pattern | string {
  const [, kind, rest = ""] = /^(keyvault|env|file):(.+)$/.exec(text) ?? [];
  switch (kind) {
    case "keyvault":
      return readVault(rest);
    case "env":
      return readVariable(rest);
    case "file": {
      const open = rest.endsWith("/*");
      const path = open ? rest.slice(0, -2) : rest;
      if (!isPlainPath(path) || path.includes("*"))
        return "must name an absolute path without . and .., or <folder>/*";
      return { kind, path, open };
    }
    default:
      return "must lend keyvault:…, env:… or file:…";
  }
}

function readVault(text: string): Pattern | string {
  const [, vault, name = "*"] =
    /^(https:\/\/[^/?#@*\\\s]+)\/?(?:(?<=\/)secrets\/([0-9A-Za-z-]{0,127}\*?))?$/.exec(text) ?? [];
  const origin = URL.parse(vault ?? "")?.origin;
  if (origin === undefined || name === "")
    return "must be keyvault:https://<vault>, with /secrets/<name> or /secrets/<prefix>* behind it";
  const open = name.endsWith("*");
  return {
    kind: "keyvault",
    vault: origin,
    name: (open ? name.slice(0, -1) : name).toLowerCase(),
    open,
  };
}

function readVariable(text: string): Pattern | string {
  const open = text.endsWith("*");
  const name = open ? text.slice(0, -1) : text;
  if (!ENV_NAME.test(name)) return "must be env:<NAME> or env:<PREFIX>*";
  if (isNeverLent(name)) return "names variables of the broker's own, which are never lent";
  return { kind: "env", name, open };
}
