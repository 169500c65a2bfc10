import type { Fault } from "../errors.ts";
import type { ModelUpstream } from "../project.ts";
import { type CheckTarget, urlFaults } from "../url-rules.ts";

/** A model upstream as an admin writes it. `apiKey` undefined: as before; null: it is called without one. */
export type ModelChange = ModelUpstream & { apiKey?: string | null | undefined };

export function modelEntry({ name, baseUrl, api }: ModelChange): ModelUpstream {
  return { name, baseUrl, api };
}

/** Every fault of the entries, under `models[n]`. */
export function modelsFaults(changes: readonly ModelChange[], checkTarget: CheckTarget): Fault[] {
  if (changes.length > MAX_MODELS)
    return [{ param: "models", message: `must have at most ${MAX_MODELS} entries` }];
  return changes.flatMap((change, at) => {
    const faults = entryFaults(change, checkTarget);
    if (changes.findIndex(({ name }) => name === change.name) !== at)
      faults.push({ param: "name", message: "is the name of another entry, too" });
    return faults.map(({ param, message }) => ({ param: `models[${at}].${param}`, message }));
  });
}

function entryFaults({ name, baseUrl, apiKey }: ModelChange, checkTarget: CheckTarget): Fault[] {
  const faults = urlFaults(baseUrl, { param: "baseUrl", checkTarget });
  // Paths are put behind it.
  if (baseUrl.includes("?")) faults.push({ param: "baseUrl", message: "must not have a query" });
  if (!UPSTREAM_NAME.test(name)) {
    const message = "must have 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or digit";
    faults.push({ param: "name", message });
  }
  if (apiKey != null && !/^[\x21-\x7e]{1,8192}$/.test(apiKey))
    faults.push({ param: "apiKey", message: "must have 1 to 8192 visible ASCII characters, without blanks" });
  return faults;
}

const UPSTREAM_NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;
const MAX_MODELS = 20;
