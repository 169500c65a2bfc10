import type { Fault } from "./errors.ts";
import type { HeaderValues } from "./connection.ts";

/**
 * What is wrong with credential headers: names are RFC 9110 tokens that neither steer the connection nor speak for the
 * protocol, values are visible ASCII and go out verbatim. Every fault under `param`; none: they may be sent.
 *
 * `cookie` is allowed: for some servers it is the key.
 */
export function headerFaults(headers: HeaderValues, param: string): Fault[] {
  const entries = Object.entries(headers);
  const total = entries.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  const faults: Fault[] = [];
  if (entries.length > MAX_HEADERS)
    faults.push({ param, message: `must have at most ${MAX_HEADERS} headers` });
  if (total > MAX_HEADERS_CHARS) {
    faults.push({ param, message: `must have at most ${MAX_HEADERS_CHARS} characters together` });
  }
  const seen = new Set<string>();
  for (const [name, value] of entries) {
    const at = `${param}.${name}`;
    const lower = name.toLowerCase();
    const nameFault = seen.has(lower) ? "is given twice: case does not matter" : headerNameFault(lower);
    const valueFault = headerValueFault(value);
    seen.add(lower);
    if (nameFault) faults.push({ param: at, message: nameFault });
    if (valueFault) faults.push({ param: at, message: valueFault });
  }
  return faults;
}

const MAX_HEADERS = 32;
const MAX_HEADERS_CHARS = 64 * 1024;
const MAX_VALUE_CHARS = 16 * 1024;
const MAX_NAME_CHARS = 128;

function headerNameFault(lower: string): string | null {
  if (lower.length > MAX_NAME_CHARS) return `must have at most ${MAX_NAME_CHARS} characters`;
  if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(lower)) return "is not a header name (RFC 9110, section 5.1)";
  if (RESERVED.has(lower) || RESERVED_PREFIXES.some((prefix) => lower.startsWith(prefix))) {
    return "is not for a connection to set";
  }
  return null;
}

/** What is wrong with a value, to be said after its name. */
export function headerValueFault(value: string): string | null {
  if (value === "") return "must not be empty";
  if (value.length > MAX_VALUE_CHARS) return `must have at most ${MAX_VALUE_CHARS} characters`;
  if (/[\r\n\0]/.test(value)) return "must not hold line breaks or NUL";
  if (!/^[\x20-\x7e\t]+$/.test(value)) return "must be visible ASCII";
  return /^\s|\s$/.test(value) ? "must not begin or end with white space" : null;
}

// Hop-by-hop (RFC 9110, 7.6.1), framing, routing, and what the MCP transport says itself.
const RESERVED = new Set([
  "__proto__",
  "accept",
  "connection",
  "expect",
  "forwarded",
  "host",
  "keep-alive",
  "last-event-id",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "via",
]);
const RESERVED_PREFIXES = ["accept-", "content-", "mcp-", "proxy-", "x-forwarded-"];
