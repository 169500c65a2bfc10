/** The words of a scope, each once (RFC 6749, 3.3). Null: there is none. */
export function wordsOf(scope: string | null | undefined): string[] | null {
  return tokensOf((scope ?? "").split(" "));
}

/**
 * Those of a server's words that are scopes, each once. What is none (a space inside, a quote, a letter that does not show)
 * would be sent as something else than what a person read, so it is not asked for. Null: there is none.
 */
export function tokensOf(words: readonly string[] | null): string[] | null {
  const tokens = [...new Set(words)].filter((word) => TOKEN.test(word)).slice(0, MAX_TOKENS);
  return tokens.length > 0 ? tokens : null;
}

/** RFC 6749, 3.3: scope-token. As long as scopes are that are URLs. */
const TOKEN = /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/;
/** A page that a person reads to its end. */
export const MAX_TOKENS = 100;
