/** RFC 6749, 3.3: an empty scope is not one. */
export function scopeOf(scopes: string[] | null, separator = " "): { scope?: string } {
  return scopes === null || scopes.length === 0 ? {} : { scope: scopes.join(separator) };
}
