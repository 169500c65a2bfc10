/** Watches a body pass by. `feed` says whether it has nested deeper than the limit. */
export type DepthGauge = { feed: (chunk: Uint8Array) => boolean };

/**
 * Measures the nesting of a JSON body, or of each event's data in an SSE body, without building anything. Works on
 * UTF-8 bytes: all that matters is ASCII, and no byte of a longer character looks like it. Null for other bodies.
 */
export function createDepthGauge(contentType: string | null, limit: number): DepthGauge | null {
  const type = (contentType ?? "application/json").split(";")[0]?.trim().toLowerCase() ?? "";
  if (type === "text/event-stream") return createSseGauge(limit);
  if (type === "application/json" || type.endsWith("+json")) return createJsonGauge(limit);
  return null;
}

type JsonGauge = DepthGauge & { read: (byte: number) => void; reset: () => void };

function createJsonGauge(limit: number): JsonGauge {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  let escaped = false;
  const read = (byte: number) => {
    if (inString) {
      if (escaped) escaped = false;
      else if (byte === BACKSLASH) escaped = true;
      else if (byte === QUOTE) inString = false;
      return;
    }
    if (byte === QUOTE) inString = true;
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) deepest = Math.max(deepest, ++depth);
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth = Math.max(0, depth - 1);
  };
  const reset = () => {
    depth = 0;
    inString = false;
    escaped = false;
  };
  const feed = (chunk: Uint8Array) => {
    for (const byte of chunk) read(byte);
    return deepest > limit;
  };
  return { read, reset, feed };
}

/**
 * Only `data` lines hold JSON, and each event begins anew: otherwise a quotation mark in some other line would hide
 * what follows. Lines end with CR, LF or CRLF, an empty one ends the event (HTML standard, 9.2.6).
 */
function createSseGauge(limit: number): DepthGauge {
  const json = createJsonGauge(limit);
  let column = 0;
  let isData = true;
  let afterReturn = false;
  const read = (byte: number) => {
    if (byte === LF && afterReturn) {
      afterReturn = false;
      return;
    }
    afterReturn = byte === CR;
    if (byte === CR || byte === LF) {
      if (column === 0) json.reset();
      column = 0;
      isData = true;
      return;
    }
    // A byte order mark may stand before the first line; treating it so on every line hides nothing.
    if (column === 0 && BYTE_ORDER_MARK.includes(byte)) return;
    if (column < DATA.length) isData &&= byte === DATA[column];
    else if (isData) json.read(byte);
    column++;
  };
  return {
    feed: (chunk) => {
      for (const byte of chunk) read(byte);
      return json.feed(NOTHING);
    },
  };
}

const NOTHING = new Uint8Array();
const DATA = new TextEncoder().encode("data:");
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];
const LF = 0x0a;
const CR = 0x0d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
