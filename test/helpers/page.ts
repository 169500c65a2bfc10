import { readFileSync } from "node:fs";
import { join } from "node:path";

/** A page of docs, as a test compares it with what the code does. */
export type Page = {
  text: string;
  /** Whether these words stand there, wherever the lines break. */
  says: (words: string) => boolean;
  /** The blocks that are marked `json`, parsed. */
  json: () => Record<string, unknown>[];
  /** What `](#…)` may name. */
  anchors: ReadonlySet<string>;
};

const root = join(import.meta.dirname, "../..");

export const sourceOf = (path: string) => readFileSync(join(root, path), "utf8");

export function readPage(path: string): Page {
  const text = sourceOf(path);
  const flat = text.replaceAll(/\s+/g, " ");
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = ""]) => anchorOf(title));
  return {
    text,
    says: (words) => flat.includes(words),
    json: () => [...text.matchAll(/^```json\n(.*?)^```$/gms)].map(([, block = ""]) => JSON.parse(block)),
    anchors: new Set(headings),
  };
}

/** As GitHub makes them. */
function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(" ", "-");
}
