import type { Json, JsonObject } from "../core/json.ts";
import type { Clock, ProgressWatch, UpstreamAccess } from "../core/ports.ts";
import type { Deadline } from "./mcp-deadline.ts";
import { visible } from "./mcp-failures.ts";
import { MAX_PROGRESS_TEXT, PROGRESS_EVERY_MS } from "./mcp-limits.ts";

/** JSON has numbers that none of ours holds: they are read as infinite. */
const isNumber = (value: Json | undefined): value is number => Number.isFinite(value);

export const PROGRESS = "notifications/progress";

/**
 * Hears `notifications/progress` of one request ("Progress": the number MUST rise, the token is the request's). What is not
 * so is ignored; what is extends the deadline, and is reported so often and no oftener, whatever a server sends.
 */
export function createProgressEar(
  { clock, access, deadline }: { clock: Clock; access: UpstreamAccess; deadline: Deadline },
  { token, watch }: { token: number; watch: ProgressWatch },
): (params: JsonObject) => void {
  let last = -Infinity;
  let reportedAt = -Infinity;
  return ({ progressToken, progress, total, message }) => {
    if (progressToken !== token || deadline.ended()) return;
    if (!isNumber(progress) || progress <= last) return;
    last = progress;
    deadline.extend();
    const now = clock.now();
    if (now - reportedAt < PROGRESS_EVERY_MS) return;
    reportedAt = now;
    watch.report({
      progress,
      total: isNumber(total) ? total : null,
      message: typeof message === "string" ? visible(message, access).slice(0, MAX_PROGRESS_TEXT) : null,
    });
  };
}
