import { auditEntry, type Context } from "../context.ts";
import { BrokerError, type Fault, invalid } from "../errors.ts";
import type { ApprovalRule } from "../policy.ts";
import type { World } from "../ports.ts";
import { DEFAULT_SETTINGS, type Settings } from "../project.ts";
import { tryUntilWon } from "./attempts.ts";

/** Some settings. Undefined: not given. */
export type SettingsChange = {
  users?: { fromBody?: boolean | undefined } | undefined;
  defaultRequireApproval?: ApprovalRule | null | undefined;
  approvals?: { expireAfterMs?: number | undefined } | undefined;
  adhocServers?: Settings["adhocServers"] | undefined;
};

/** The settings with a change applied. Throws `invalid` with every fault, under `at`. */
export function changeSettings(before: Settings, change: SettingsChange, at = ""): Settings {
  const settings: Settings = {
    users: { fromBody: change.users?.fromBody ?? before.users.fromBody },
    defaultRequireApproval: orBefore(change.defaultRequireApproval, before.defaultRequireApproval),
    approvals: { expireAfterMs: change.approvals?.expireAfterMs ?? before.approvals.expireAfterMs },
    adhocServers: orBefore(change.adhocServers, before.adhocServers),
  };
  const faults = faultsOf(settings).map(({ param, message }) => ({
    param: at === "" ? param : `${at}.${param}`,
    message,
  }));
  if (faults.length > 0) throw invalid(...faults);
  return settings;
}

/**
 * Writes the settings: `replace` starts from the defaults, `change` from what is there. Throws `invalid`, `not_found`,
 * `changed_meanwhile`.
 */
export async function writeSettings(
  world: World,
  context: Context,
  change: SettingsChange,
  mode: "replace" | "change",
): Promise<Settings> {
  const { name } = context.project;
  const written = await tryUntilWon({ what: "project", name }, async () => {
    const project = await world.store.projects.get(name);
    if (!project) throw new BrokerError("not_found", { what: "project", name });
    const settings = changeSettings(mode === "replace" ? DEFAULT_SETTINGS : project.settings, change);
    const entry = auditEntry(world, context, "settings_changed", {
      detail: { fields: changedFields(project.settings, settings).join(",") },
    });
    return world.store.projects.updateSettings({ name, version: project.version, settings }, [entry]);
  });
  return written.settings;
}

function orBefore<T>(given: T | undefined, before: T): T {
  return given === undefined ? before : given;
}

function changedFields(before: Settings, after: Settings): string[] {
  const names = ["users", "defaultRequireApproval", "approvals", "adhocServers"] as const;
  return names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}

function faultsOf({ approvals, adhocServers }: Settings): Fault[] {
  const faults: Fault[] = [];
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

/** Compared with a URL's `host` and `hostname`, so it must be written as they are. */
function isHost(host: string): boolean {
  if (!URL.canParse(`https://${host}/`)) return false;
  const url = new URL(`https://${host}/`);
  return (url.host === host || url.hostname === host) && host !== "";
}

const MIN_EXPIRY_MS = 60_000;
const MAX_EXPIRY_MS = 30 * 24 * 60 * 60_000;
const MAX_HOSTS = 200;
