import type { Fault } from "../errors.ts";
import type { ModelUpstream } from "../project.ts";
import type { CheckReference, SecretValue } from "../secret-references.ts";
import { type CheckTarget, urlFaults } from "../url-rules.ts";

/** A model upstream as an admin writes it. `apiKey` undefined: as before; null: it is called without one. */
export type ModelChange = Omit<ModelUpstream, "apiKeyRef"> & { apiKey?: SecretValue | null | undefined };

/** The entry as it will stand. `before`: the entries of which a key may be kept. */
export function modelEntry(change: ModelChange, before: readonly ModelUpstream[]): ModelUpstream {
  const { name, baseUrl, api, apiKey } = change;
  const given = typeof apiKey === "string" || apiKey === null ? undefined : apiKey?.ref;
  const kept =
    apiKey === undefined ? before.find((entry) => isSameUpstream(entry, change))?.apiKeyRef : undefined;
  const apiKeyRef = given ?? kept;
  return apiKeyRef === undefined ? { name, baseUrl, api } : { name, baseUrl, api, apiKeyRef };
}

/** Whether a key that was given for one goes nowhere else under the other. */
export function isSameUpstream(
  before: Pick<ModelUpstream, "name" | "baseUrl">,
  after: Pick<ModelUpstream, "name" | "baseUrl">,
): boolean {
  return before.name === after.name && before.baseUrl === after.baseUrl;
}

type ModelRules = { checkTarget: CheckTarget; checkReference: CheckReference };

/** Every fault of the entries, under `models[n]`. */
export function modelsFaults(changes: readonly ModelChange[], rules: ModelRules): Fault[] {
  if (changes.length > MAX_MODELS)
    return [{ param: "models", message: `must have at most ${MAX_MODELS} entries` }];
  return changes.flatMap((change, at) => {
    const faults = entryFaults(change, rules);
    if (changes.findIndex(({ name }) => name === change.name) !== at)
      faults.push({ param: "name", message: "is the name of another entry, too" });
    return faults.map(({ param, message }) => ({ param: `models[${at}].${param}`, message }));
  });
}

function entryFaults({ name, baseUrl, apiKey }: ModelChange, rules: ModelRules): Fault[] {
  const { checkTarget, checkReference } = rules;
  const faults = urlFaults(baseUrl, { param: "baseUrl", checkTarget });
  // Paths are put behind it.
  if (baseUrl.includes("?")) faults.push({ param: "baseUrl", message: "must not have a query" });
  if (!UPSTREAM_NAME.test(name)) {
    const message = "must have 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or digit";
    faults.push({ param: "name", message });
  }
  if (apiKey != null) faults.push(...keyFaults(apiKey, checkReference));
  return faults;
}

function keyFaults(key: SecretValue, checkReference: CheckReference): Fault[] {
  if (typeof key === "string") {
    const message = modelKeyFault(key);
    return message === null ? [] : [{ param: "apiKey", message }];
  }
  const message = checkReference(key.ref);
  return [
    ...(message === null ? [] : [{ param: "apiKey.ref", message }]),
    ...(key.prefix === "" ? [] : [{ param: "apiKey.prefix", message: "must be absent" }]),
  ];
}

/** What is wrong with a key, to be said after its name. */
export function modelKeyFault(key: string): string | null {
  return /^[\x21-\x7e]{1,8192}$/.test(key)
    ? null
    : "must have 1 to 8192 visible ASCII characters, without blanks";
}

const UPSTREAM_NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;
const MAX_MODELS = 20;
