import { modelKeyFault } from "./administration/model-rules.ts";
import { openSecrets } from "./administration/project-secrets.ts";
import { BrokerError } from "./errors.ts";
import type { Model, World } from "./ports.ts";
import type { ModelUpstream, Project } from "./project.ts";
import type { SecretValue } from "./secret-references.ts";

/** Who is asked, and for what. `upstream` null: the environment's. */
export type ChosenModel = { upstream: ModelUpstream | null; model: string };

/**
 * The upstream of a request's `model`: `{name}/{model}` is `{model}` at the project's upstream of that name; everything else is
 * as it stands for the project's `default`, or for the environment's where there is none. Makers' names in front of models
 * (`meta-llama/…`) are no upstream's, as long as no upstream is called so. Null: there is nobody to ask.
 */
export function chooseModel(
  world: Pick<World, "model">,
  { settings: { models } }: Pick<Project, "settings">,
  model: string,
): ChosenModel | null {
  const slash = model.indexOf("/");
  const rest = model.slice(slash + 1);
  const named = slash > 0 && rest !== "" ? entryOf(models, model.slice(0, slash)) : null;
  if (named) return { upstream: named, model: rest };
  const upstream = entryOf(models, DEFAULT_UPSTREAM);
  return upstream || world.model ? { upstream, model } : null;
}

/** The name of the upstream that stands before the environment's. */
const DEFAULT_UPSTREAM = "default";

/**
 * The chosen upstream as it is now: settings may have changed since the turn began, and a key goes only where the settings that
 * it was given with say. Throws `unavailable`.
 */
export async function openModel(
  world: World,
  { name }: Pick<Project, "name">,
  { upstream }: ChosenModel,
): Promise<Model> {
  if (upstream === null) {
    if (!world.model) throw new Error("a turn with a model was planned without one");
    return world.model;
  }
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const project = await world.store.projects.get(name);
    const entry = project && entryOf(project.settings.models, upstream.name);
    if (!entry) throw new BrokerError("unavailable", { what: `the model upstream ${upstream.name}` });
    const { version, secrets } = await openSecrets(world, name);
    if (version !== project.version) continue;
    const held = Object.hasOwn(secrets.models, entry.name) ? (secrets.models[entry.name] ?? null) : null;
    const apiKey = held && (await usedKey(world, name, held));
    return world.modelAt({ baseUrl: entry.baseUrl, api: entry.api, apiKey });
  }
  // Somebody keeps changing the settings.
  const what = `the model upstream ${upstream.name}`;
  throw new BrokerError("unavailable", { what, passing: true });
}

const MAX_ATTEMPTS = 5;

/** The key itself. Throws `unavailable`, which names the reference that cannot be had, or is no key. */
async function usedKey(
  { references }: Pick<World, "references">,
  project: string,
  held: SecretValue,
): Promise<string> {
  if (typeof held === "string") return held;
  const key = await references.resolve(project, held.ref);
  const fault = modelKeyFault(key);
  if (fault === null) return key;
  const what = `the secret ${held.ref} is no key for a model upstream: it ${fault}`;
  throw new BrokerError("unavailable", { what, reference: held.ref, passing: true });
}

function entryOf(models: readonly ModelUpstream[], name: string): ModelUpstream | null {
  return models.find((entry) => entry.name === name) ?? null;
}
