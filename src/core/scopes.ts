/** The words of a scope (RFC 6749, 3.3). Null: there is none. */
export function wordsOf(scope: string | null | undefined): string[] | null {
  const words = (scope ?? "").split(" ").filter((word) => word !== "");
  return words.length > 0 ? [...new Set(words)] : null;
}
