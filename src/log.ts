import { pino } from "pino";
import type { Config } from "./config.ts";
import type { Log } from "./core/ports.ts";

// The log of a process. Part of the door `node.ts`.

/** What waits for somebody who does not read it. Beyond that lines are dropped. */
const MAX_LOG_CHARS = 32 * 1024 * 1024;

/** Lines about requests are written together, so many characters of them or after so many milliseconds: each write is a system call. */
const TOGETHER_CHARS = 4096;
const TOGETHER_MS = 50;

/**
 * Structured, one line each; `err` is an error with its stack. Lines wait for the one before to be written, not the broker for
 * them; what waits when the process ends is written first. `dropped` is called for each line that is not, and for each write that fails.
 */
export function createLog(
  { logLevel }: Pick<Config, "logLevel">,
  {
    dropped,
    fd = process.stdout.fd,
    maxChars = MAX_LOG_CHARS,
  }: { dropped: () => void; fd?: number; maxChars?: number },
): Log {
  const lines = pino.destination({
    dest: fd,
    sync: false,
    maxLength: maxChars,
    minLength: Math.min(TOGETHER_CHARS, maxChars),
    periodicFlush: TOGETHER_MS,
  });
  lines.on("drop", dropped);
  // A full disk must not end the process.
  lines.on("error", dropped);
  const logger = pino(
    {
      level: logLevel,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    lines,
  );
  return (level, event, fields = {}) => {
    logger[level]({ event, ...fields });
    if (event !== "http_request") lines.flush();
  };
}
