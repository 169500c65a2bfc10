import type { ListOutcome, ToolDefinition, UpstreamFailure } from "../core/ports.ts";
import type { JsonObject } from "../core/json.ts";
import type { Asked } from "./mcp-ask.ts";
import type { Line } from "./mcp-line.ts";
import { MAX_LIST_BYTES, MAX_LIST_PAGES, MAX_LISTED_TOOLS } from "./mcp-limits.ts";
import { readPage, type ToolPage } from "./mcp-tools.ts";

/**
 * Lists a server's tools, page by page. A listing that cannot be had whole is a failure, never a shorter or empty one:
 * a missing tool would look like one that was taken away. All pages together share one budget of bytes, and no page is
 * read beyond what is left of it. `onKept`: the server says how long it holds.
 */
export async function listAll(
  askFor: (params: JsonObject, maxBytes: number) => Promise<Asked>,
  {
    onDropped,
    onKept,
  }: { onDropped: (dropped: ToolPage["dropped"]) => void; onKept: (line: Line, ttlMs: number) => void },
): Promise<ListOutcome> {
  const tools = new Map<string, ToolDefinition>();
  const cursors = new Set<string>();
  const dropped: ToolPage["dropped"] = [];
  let listed = 0;
  let bytesLeft = MAX_LIST_BYTES;
  let ttlMs: number | null = null;
  let cursor: string | null = null;
  do {
    const asked: Asked = await askFor(cursor === null ? {} : { cursor }, bytesLeft);
    if (!asked.ok) return { ok: false, failure: withBudget(asked.failure) };
    bytesLeft -= asked.bytes;
    const page = readPage(asked.result, asked.line);
    if (!page) return failure("not_mcp", "The server's answer to tools/list has no list of tools.");
    listed += page.listed;
    if (listed > MAX_LISTED_TOOLS) {
      return failure("too_large", `The server lists more than ${MAX_LISTED_TOOLS} tools.`);
    }
    dropped.push(...page.dropped);
    for (const tool of page.tools) {
      // Never last-wins: a later tool must not take the place of one already seen.
      if (tools.has(tool.name)) dropped.push({ name: tool.name, why: "another tool has its name" });
      else tools.set(tool.name, tool);
    }
    if (page.ttlMs !== null) ttlMs = Math.min(ttlMs ?? page.ttlMs, page.ttlMs);
    cursor = page.next;
    if (cursor !== null && cursors.has(cursor)) {
      return failure("not_mcp", "The server's list of tools goes in a circle.");
    }
    if (cursor !== null) cursors.add(cursor);
    if (cursors.size === MAX_LIST_PAGES) {
      return failure("too_large", `The server lists its tools on more than ${MAX_LIST_PAGES} pages.`);
    }
    if (cursor === null && ttlMs !== null) onKept(asked.line, ttlMs);
  } while (cursor !== null);
  if (dropped.length > 0) onDropped(dropped);
  if (listed > 0 && tools.size === 0) {
    return failure("not_mcp", `None of the ${listed} tools that the server lists can be used.`);
  }
  return { ok: true, tools: [...tools.values()], ttlMs };
}

function withBudget(failure: UpstreamFailure): UpstreamFailure {
  if (failure.kind !== "too_large") return failure;
  const message = `${failure.message} All pages of a list of tools share ${MAX_LIST_BYTES} bytes.`;
  return { ...failure, message };
}

function failure(kind: "not_mcp" | "too_large", message: string): ListOutcome {
  return { ok: false, failure: { kind, message } satisfies UpstreamFailure };
}
