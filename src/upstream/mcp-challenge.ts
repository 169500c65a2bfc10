import type { Challenge } from "../core/ports.ts";

/**
 * What the `WWW-Authenticate` of a 401 or 403 asks for: of its challenges the first of Bearer that says something, else the
 * first of DPoP (RFC 9449, 7.1). Null: there is none. Values that are too long, hold what their grammar forbids, or for which
 * `isSecret` holds are absent. Never throws; one pass over the header.
 *
 * Our own reader: the SDK's sees only the first challenge and finds names inside quoted values.
 */
export function challengeOf(header: string | null, isSecret: (value: string) => boolean): Challenge | null {
  if (header === null) return null;
  const found = readChallenges(header.slice(0, MAX_HEADER)).filter(({ scheme }) => RANK.includes(scheme));
  const ranked = found.toSorted((one, other) => RANK.indexOf(one.scheme) - RANK.indexOf(other.scheme));
  const chosen = ranked.find(({ params }) => NAMES.some((name) => params.has(name))) ?? ranked[0];
  if (!chosen) return null;
  const read = (name: string, { shape, limit }: { shape: RegExp; limit: number }): string | null => {
    const value = chosen.params.get(name);
    const usable = value !== undefined && value.length <= limit && shape.test(value) && !isSecret(value);
    return usable ? value : null;
  };
  return {
    error: read("error", { shape: WORDS, limit: MAX_ERROR }),
    scope: read("scope", { shape: WORDS, limit: MAX_SCOPE }),
    resourceMetadata: read("resource_metadata", { shape: URI, limit: MAX_URL }),
    claims: read("claims", { shape: CLAIMS, limit: MAX_CLAIMS }),
  };
}

type Parts = { scheme: string; params: Map<string, string> };

/**
 * The challenges of a header, schemes and names in lower case (RFC 9110, 11.6.1). A comma separates both challenges and
 * parameters: a token is a parameter's name where `=` and a value follow, and a scheme everywhere else. What cannot be read
 * ends the reading.
 */
export function readChallenges(header: string): Parts[] {
  const challenges: Parts[] = [];
  let at = 0;
  const take = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(header)?.[0];
    if (match === undefined) return null;
    at += match.length;
    return match;
  };
  for (;;) {
    take(SEPARATORS);
    const word = take(TOKEN)?.toLowerCase();
    if (word === undefined) return challenges;
    const current = challenges.at(-1);
    if (current && take(EQUALS) !== null) {
      const value = take(QUOTED) ?? take(BARE);
      if (value === null) return challenges;
      // A name that comes twice is not one of HTTP; nobody can say later what the first one was.
      if (!current.params.has(word)) current.params.set(word, unquoted(value));
    } else {
      challenges.push({ scheme: word, params: new Map() });
      if (take(SPACE) !== null) take(TOKEN68);
    }
  }
}

function unquoted(value: string): string {
  return value.startsWith('"') ? value.slice(1, -1).replaceAll(/\\(.)/g, "$1") : value;
}

const SEPARATORS = /[ \t,]*/y;
const SPACE = / +/y;
const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const EQUALS = /[ \t]*=[ \t]*/y;
const QUOTED = /"(?:[^"\\]|\\.)*"/y;
// A value that should have been quoted, such as a URL, is read as far as it goes.
const BARE = /[^ \t,"]+/y;
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y;

/** The one that we speak first. */
const RANK = ["bearer", "dpop"];
const NAMES = ["error", "scope", "resource_metadata", "claims"];
/** Of scopes and error codes (RFC 6749, 3.3 and 5.2). */
const WORDS = /^[\x20\x21\x23-\x5b\x5d-\x7e]+$/;
const URI = /^[\x21-\x7e]+$/;
/** Base64 of a JSON object, or the object itself (Microsoft identity platform, "Claims challenges"). */
const CLAIMS = /^(?:[A-Za-z0-9+/_-]+={0,2}|\{[\x20-\x7e]*\})$/;
const MAX_HEADER = 16_384;
const MAX_ERROR = 100;
const MAX_SCOPE = 4_096;
const MAX_URL = 2_048;
const MAX_CLAIMS = 4_096;
