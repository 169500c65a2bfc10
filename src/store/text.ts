/**
 * PostgreSQL refuses U+0000 in text, and names, tool names and error texts come from strangers. Every text column
 * passes through here on every engine, so that any string can be stored, found and read back as it was: U+0000 is
 * written as U+001A "0", and U+001A itself as U+001A "1".
 */
export function escapeNul(text: string): string {
  if (!NUL_OR_ESCAPE.test(text)) return text;
  return text.replaceAll(ESCAPE, `${ESCAPE}1`).replaceAll(NUL, `${ESCAPE}0`);
}

export function unescapeNul(text: string): string {
  if (!text.includes(ESCAPE)) return text;
  return text.replaceAll(`${ESCAPE}0`, NUL).replaceAll(`${ESCAPE}1`, ESCAPE);
}

const NUL = String.fromCharCode(0x00);
const ESCAPE = String.fromCharCode(0x1a);
const NUL_OR_ESCAPE = new RegExp(`[${NUL}${ESCAPE}]`);

/**
 * A name from a stranger as an index takes it: PostgreSQL's index rows end at 2,704 bytes. Names of up to 256
 * characters are themselves, longer ones their SHA-256.
 */
export async function indexKey(name: string): Promise<string> {
  if (name.length <= MAX_INDEXED_CHARS) return name;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name)));
  return `sha256:${Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

const MAX_INDEXED_CHARS = 256;
