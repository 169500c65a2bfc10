/** Which tools a rule speaks of. An empty filter matches nothing: it must never mean "all". */
export type ToolFilter = { toolNames?: string[]; readOnly?: boolean };

/** When a tool call waits for a person (`require_approval`; DESIGN 7, precedence rules of our own where OpenAI has none). */
export type ApprovalRule = "always" | "never" | { always?: ToolFilter; never?: ToolFilter };

/** What a rule is asked about. `readOnly` is computed by us: a missing, changed or distrusted hint counts as not read-only. */
export type ToolFacts = { name: string; readOnly: boolean };

/** `always` beats `never`; a tool in neither list needs approval. */
export function needsApproval(rule: ApprovalRule, tool: ToolFacts): boolean {
  if (rule === "always") return true;
  if (rule === "never") return false;
  if (rule.always && matchesAny(rule.always, tool)) return true;
  return !(rule.never && matchesAll(rule.never, tool));
}

/** `allowed_tools`: both keys given must both hold; null allows everything, an empty filter or name list nothing. */
export function isAllowed(filter: ToolFilter | null, tool: ToolFacts): boolean {
  return filter === null || matchesAll(filter, tool);
}

function matchesAny(filter: ToolFilter, tool: ToolFacts): boolean {
  return (filter.toolNames?.includes(tool.name) ?? false) || filter.readOnly === tool.readOnly;
}

function matchesAll(filter: ToolFilter, tool: ToolFacts): boolean {
  if (filter.toolNames === undefined && filter.readOnly === undefined) return false;
  if (filter.toolNames !== undefined && !filter.toolNames.includes(tool.name)) return false;
  return filter.readOnly === undefined || filter.readOnly === tool.readOnly;
}
