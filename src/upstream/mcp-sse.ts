/** One block of an event stream. `data` is null where it has none: then only its id or `retry` counts. */
export type SseBlock = { type: string; data: string | null; id: string | null; retryMs: number | null };

/**
 * Reads a stream of text chunks as server-sent events (WHATWG HTML, 9.2.6). Each character is looked at once, however
 * the chunks are cut. `unfinished`: how many lines of data the block that has not ended holds.
 */
export function createSseReader(): { read: (chunk: string) => SseBlock[]; unfinished: () => number } {
  let line: string[] = [];
  let afterReturn = false;
  let first = true;
  let block = emptyBlock();
  const lineEnd = /\r\n|\r|\n/g;

  const read = (chunk: string) => {
    const done: SseBlock[] = [];
    let from = 0;
    if (first && chunk.length > 0) {
      first = false;
      if (chunk.startsWith("\ufeff")) from = 1;
    }
    if (afterReturn && chunk.startsWith("\n", from)) from++;
    if (chunk.length > 0) afterReturn = false;
    lineEnd.lastIndex = from;
    for (let end = lineEnd.exec(chunk); end; end = lineEnd.exec(chunk)) {
      line.push(chunk.slice(from, end.index));
      from = lineEnd.lastIndex;
      afterReturn = end[0] === "\r" && from === chunk.length;
      const text = line.join("");
      line = [];
      if (text !== "") readField(text, block);
      else {
        if (block.touched) done.push(finish(block));
        block = emptyBlock();
      }
    }
    if (from < chunk.length) line.push(chunk.slice(from));
    return done;
  };
  return { read, unfinished: () => block.data.length };
}

type Building = {
  type: string;
  data: string[];
  id: string | null;
  retryMs: number | null;
  touched: boolean;
};

const emptyBlock = (): Building => ({ type: "", data: [], id: null, retryMs: null, touched: false });

function readField(text: string, block: Building): void {
  const colon = text.indexOf(":");
  if (colon === 0) return;
  const name = colon < 0 ? text : text.slice(0, colon);
  const value = colon < 0 ? "" : text.slice(text[colon + 1] === " " ? colon + 2 : colon + 1);
  block.touched = true;
  switch (name) {
    case "event":
      block.type = value;
      return;
    case "data":
      block.data.push(value);
      return;
    case "id":
      if (!value.includes("\0")) block.id = value;
      return;
    case "retry":
      if (/^\d{1,9}$/.test(value)) block.retryMs = Number(value);
  }
}

function finish({ type, data, id, retryMs }: Building): SseBlock {
  return { type: type || "message", data: data.length > 0 ? data.join("\n") : null, id, retryMs };
}
