/**
 * The trace that something belongs to, as W3C Trace Context writes it: continued by us where traces are on, and passed on to
 * MCP servers and models either way. It names nobody, and nothing is decided by it.
 */
export type Trace = { traceparent: string; tracestate: string | null };

/**
 * A caller's two headers, checked. Null: there is no `traceparent`, or none that can be read, and then its `tracestate`
 * means nothing either (Trace Context, 3.2.2 and 3.3). What is malformed goes no further.
 */
export function readTrace(traceparent: string | null, tracestate: string | null): Trace | null {
  if (traceparent === null) return null;
  const [, version = "", ids = "", flags = "", more = ""] = TRACEPARENT.exec(traceparent) ?? [];
  if (ids === "" || version === "ff" || NO_ID.test(ids)) return null;
  // What a later version adds is not ours to repeat (3.2.4): its first four fields are.
  if (version === "00" && more !== "") return null;
  return { traceparent: `00-${ids}-${flags}`, tracestate: readState(tracestate) };
}

/** As headers, and as members of an MCP request's `_meta`, where they have the same names. */
export function traceFields(trace: Trace | null | undefined): Record<string, string> {
  if (!trace) return {};
  const { traceparent, tracestate } = trace;
  return { traceparent, ...(tracestate !== null && { tracestate }) };
}

function readState(text: string | null): string | null {
  if (text === null || text.length > MAX_STATE_CHARS) return null;
  const members = text
    .split(",")
    .map((member) => member.trim())
    .filter((member) => member !== "");
  const keys = new Set(members.map((member) => member.split("=")[0]));
  const isSound = members.every((member) => MEMBER.test(member)) && keys.size === members.length;
  return isSound && members.length > 0 && members.length <= MAX_MEMBERS ? members.join(",") : null;
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32}-[0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const NO_ID = /^0{32}|0{16}$/;
// 3.3.1.3: a simple key or one of a tenant, and a value of printable characters.
const MEMBER =
  /^(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})=[!-+\x2d-<>-~ ]{1,256}$/;
const MAX_MEMBERS = 32;
/** What everybody must be able to pass on (3.3.1.5); of more we pass on nothing. */
const MAX_STATE_CHARS = 512;
