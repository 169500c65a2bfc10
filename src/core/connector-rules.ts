import type { Connector } from "./connection.ts";
import { placeOfApp, readApp } from "./connection-oauth-rules.ts";
import { type Fault, invalid } from "./errors.ts";
import type { Found, OAuthDraft, Question } from "./oauth-app-rules.ts";
import type { ClientBox } from "./oauth-client-rules.ts";
import type { CheckReference } from "./secret-references.ts";
import { type CheckTarget, isHost } from "./url-rules.ts";

/** A connector as an operator writes it. Undefined: not given. */
export type ConnectorDraft = Omit<OAuthDraft, "connectorName"> & { targets?: string[] | undefined };

export type ConnectorContent = Pick<Connector, "app" | "scopes" | "overrides" | "targets">;

/** What a draft comes to. `question` not null: ask it, and read the draft again with what was found. */
export type ReadConnector = { content: ConnectorContent; box: ClientBox; question: Question | null };

/** The rules of a connector, pure: those of an app, and which hosts its users' tokens may go to. Throws `invalid`. */
export function readConnector(
  draft: ConnectorDraft,
  context: {
    name: string;
    before: Connector | null;
    mode: "replace" | "change";
    checkTarget: CheckTarget;
    checkReference: CheckReference;
    found: Found | null;
  },
): ReadConnector {
  const { name, before, mode } = context;
  const read = readApp(draft, { ...context, nameOf: (field) => field });
  const targets = draft.targets ?? (mode === "change" ? before?.targets : undefined);
  const faults = [...nameFaults(name), ...read.faults, ...targetFaults(targets)];
  if (faults.length > 0 || !read.app || !targets) throw invalid(...faults);
  const { scopes, overrides } = read.auth;
  const content = { app: read.app, scopes, overrides, targets: [...new Set(targets)] };
  return { content, box: read.box, question: read.question };
}

/** Whether grants made by way of `before` are nothing to `after`: another client, another server, another resource. */
export function isOtherApp(before: ConnectorContent, after: ConnectorContent): boolean {
  const placeOf = ({ app, overrides }: ConnectorContent) =>
    JSON.stringify([placeOfApp(app), overrides.resource]);
  return placeOf(before) !== placeOf(after);
}

function nameFaults(name: string): Fault[] {
  if (/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/.test(name)) return [];
  const message = "must have 1 to 64 letters, digits, '_' or '-', and begin with a letter or digit";
  return [{ param: "name", message }];
}

function targetFaults(targets: string[] | undefined): Fault[] {
  if (!targets || targets.length === 0) {
    return [{ param: "targets", message: "must name at least one host that its users' tokens may go to" }];
  }
  if (targets.length > MAX_TARGETS) {
    return [{ param: "targets", message: `must have at most ${MAX_TARGETS} hosts` }];
  }
  return targets.flatMap((target, at) =>
    isTarget(target.replace(/^\*\./, ""))
      ? []
      : [{ param: `targets[${at}]`, message: "must be a host as it stands in a URL, or *.host" }],
  );
}

/** A `*` is a letter like others to URLs, and would promise more than it does. */
function isTarget(host: string): boolean {
  return isHost(host) && !host.includes("*");
}

const MAX_TARGETS = 200;
