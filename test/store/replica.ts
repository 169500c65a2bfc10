// A program of its own for sqlite.test.ts. Says "ready"; told to go, it opens many new databases, because the moment in
// which two make the same one is short. In the last it tries to make projects and to change each once, and tells which
// it made and which it changed.
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { entry } from "./things.ts";

const [path = "", migrations = "", me = "", ...names] = process.argv.slice(2);

const NEW_DATABASES = 150;

process.once("message", () => void compete());
process.send?.("ready");

async function compete() {
  for (let n = 0; n < NEW_DATABASES; n++) await openSqlite(`${path}.${n}`, { migrations }).close();
  const store = openSqlite(path, { migrations });
  const [made, changed]: string[][] = [[], []];
  for (const name of names) {
    const project = { name, settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 };
    if (await store.projects.insert(project, [audit(name, "project_created")])) made?.push(name);
    const change = { name, version: 1, settings: DEFAULT_SETTINGS, sealed: null };
    if (await store.projects.updateSettings(change, [audit(name, "settings_changed")])) changed?.push(name);
  }
  await store.close();
  process.send?.({ made, changed });
  process.disconnect?.();
}

function audit(project: string, event: "project_created" | "settings_changed") {
  return { ...entry(project, event, { principal: me }), id: `evt_${project}${event}${me}` as const };
}
