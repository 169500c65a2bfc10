import { auditEntry, type Context } from "../context.ts";
import { BrokerError, invalid } from "../errors.ts";
import type { World } from "../ports.ts";
import { DEFAULT_SETTINGS, type Project, PROJECT_NAME } from "../project.ts";
import type { Listed, Page } from "../storage.ts";
import type { CheckTarget } from "../url-rules.ts";
import { changeSettings, type SettingsChange, settingsRules, writeSettings } from "./settings.ts";

/** Who does it, for the audit. */
export type Actor = Pick<Context, "caller" | "user" | "requestId">;

/** Throws `invalid` for a name or settings that cannot be, `name_taken` for one that is. */
export async function createProject(
  world: World,
  actor: Actor,
  draft: { name: string; settings: SettingsChange },
  checkTarget: CheckTarget,
): Promise<Project> {
  const { name } = draft;
  if (!PROJECT_NAME.test(name)) {
    const message = "must have 1 to 64 letters, digits, '_' or '-', and begin with a letter or digit";
    throw invalid({ param: "name", message });
  }
  const rules = { ...settingsRules(world, name, checkTarget), at: "settings" };
  const settings = changeSettings(DEFAULT_SETTINGS, draft.settings, rules);
  const project: Project = { name, settings, version: 1, createdAt: world.clock.now() };
  const entry = auditEntry(world, { ...actor, project }, "project_created");
  if (!(await world.store.projects.insert(project, [entry]))) {
    throw new BrokerError("name_taken", { what: "project", name });
  }
  // A secret is sealed for a row that is there.
  if (!bringsSecrets(draft.settings)) return project;
  await writeSettings(world, { ...actor, project }, draft.settings, { mode: "change", checkTarget });
  return (await world.store.projects.get(name)) ?? project;
}

function bringsSecrets({ signIn, issuers = [], models = [] }: SettingsChange): boolean {
  if (signIn?.clientSecret != null || models.some(({ apiKey }) => apiKey != null)) return true;
  return issuers.some((entry) => entry.type === "oidc" && entry.exchange?.clientSecret != null);
}

export async function listProjects(world: World, page: Page): Promise<Listed<Project>> {
  return world.store.projects.list(page);
}

/** With everything in it; its audit stays. Throws `not_found`. */
export async function deleteProject(world: World, actor: Actor, name: string): Promise<void> {
  const entry = auditEntry(world, { ...actor, project: { name } }, "project_deleted");
  if (!(await world.store.projects.delete(name, [entry]))) {
    throw new BrokerError("not_found", { what: "project", name });
  }
}
