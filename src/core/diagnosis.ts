import type { Connection, HeaderValues } from "./connection.ts";
import { isAllowed, needsApproval } from "./policy.ts";
import { explainFailure, type Finding } from "./diagnosis-failures.ts";
import type { UpstreamFailure } from "./ports.ts";

/** A tool of a listing, as far as a diagnosis looks. */
export type SeenTool = { name: string; readOnly: boolean; changed: boolean };

export type Seen = { ok: true; tools: SeenTool[] } | { ok: false; failure: UpstreamFailure };

export type Diagnosis = Finding & {
  /** Whether calls can work: the server answered, and nothing of ours stands in every tool's way. */
  ok: boolean;
  /** What the approval and allow settings mean for this server's tools. */
  notes: string[];
  toolCount: number | null;
};

/**
 * Names the likely cause of what a listing showed (`…:validate`). Pure; reads the credential values for their form and
 * repeats none.
 */
export function diagnose(
  connection: Connection,
  evidence: { headers: HeaderValues; seen: Seen; hasApprover: boolean },
): Diagnosis {
  const { seen, headers } = evidence;
  if (!seen.ok) {
    return { ok: false, ...explainFailure(connection, headers, seen.failure), notes: [], toolCount: null };
  }
  const notes = approvalNotes(connection, seen.tools, evidence.hasApprover);
  const toolCount = seen.tools.length;
  return { ...judge(connection, seen.tools, evidence.hasApprover), notes, toolCount };
}

function judge(
  connection: Connection,
  tools: SeenTool[],
  hasApprover: boolean,
): Finding & Pick<Diagnosis, "ok"> {
  const offered = tools.filter((tool) => isAllowed(connection.allowedTools, tool));
  if (tools.length === 0) {
    const message = "The server answered and listed no tools.";
    const hints = ["Check on the server whether this key may see any tools."];
    return { ok: true, cause: "no_tools", message, hints };
  }
  if (offered.length === 0) {
    const message = `The server listed ${count(tools.length, "tool")}, and allowedTools hides all of them.`;
    const hints = [`Compare allowedTools with the names that the server lists: ${namesOf(tools)}.`];
    return { ok: false, cause: "all_hidden", message, hints };
  }
  if (connection.approvers === "role" && !hasApprover && offered.every((tool) => waits(connection, tool))) {
    const message =
      'Every tool needs approval by the role approver (approvers: "role"), and no key and no issuer of this project gives it.';
    const hints = [
      "Make a key with the role approver, map a claim of an issuer to it, or set approvers to caller.",
    ];
    return { ok: false, cause: "no_approver", message, hints };
  }
  return { ok: true, cause: "none", message: `The server listed ${count(tools.length, "tool")}.`, hints: [] };
}

/** With a rule of its own, or a changed definition, which waits whatever the rule. */
function waits({ requireApproval }: Connection, tool: SeenTool): boolean {
  return tool.changed || (requireApproval !== null && needsApproval(requireApproval, tool));
}

function approvalNotes(connection: Connection, tools: SeenTool[], hasApprover: boolean): string[] {
  const { allowedTools, trustAnnotations, approvers } = connection;
  const hidden = tools.filter((tool) => !isAllowed(allowedTools, tool));
  const waiting = tools.filter((tool) => isAllowed(allowedTools, tool) && waits(connection, tool));
  const changed = tools.filter((tool) => tool.changed);
  const named = namedTools(connection).filter((name) => !tools.some((tool) => tool.name === name));
  const notes = [
    hidden.length > 0 && `allowedTools hides ${namesOf(hidden)}.`,
    offeredFreely(connection, tools) &&
      "Where the connection does not ask for approval, each request's own require_approval decides; left out, it is always.",
    waiting.length > 0 && `Calls wait for approval: ${namesOf(waiting)}.`,
    approvers === "role" && (hasApprover ? BY_ROLE : BY_NOBODY),
    changed.length > 0 &&
      `Changed since they were accepted, so their calls wait until an admin accepts them: ${namesOf(changed)}.`,
    named.length > 0 && `Named in the settings and not listed by the server: ${named.join(", ")}.`,
    !trustAnnotations && "trustAnnotations is false: no tool counts as read-only.",
  ];
  return notes.filter((note) => note !== false);
}

function offeredFreely(connection: Connection, tools: SeenTool[]): boolean {
  return tools.some((tool) => isAllowed(connection.allowedTools, tool) && !waits(connection, tool));
}

function namedTools({ allowedTools, requireApproval }: Connection): string[] {
  const rule = typeof requireApproval === "object" && requireApproval !== null ? requireApproval : {};
  const filters = [allowedTools, rule.always, rule.never];
  return [...new Set(filters.flatMap((filter) => filter?.toolNames ?? []))];
}

function namesOf(tools: { name: string }[]): string {
  const shown = tools.slice(0, MAX_NAMES).map((tool) => tool.name);
  const rest = tools.length - shown.length;
  return shown.join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}

function count(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? "" : "s"}`;
}

const BY_ROLE =
  "Calls that wait are decided by the role approver, and not by the caller or the person of the call itself.";
const BY_NOBODY =
  "Calls that wait are decided by the role approver, which nobody has: they wait until they expire.";
const MAX_NAMES = 10;
