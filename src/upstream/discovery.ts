import type { JsonObject } from "../core/json.ts";
import { objectOf } from "./oauth-answer.ts";
import { broken, transient } from "./oauth-failures.ts";
import { ask, type Outgoing } from "./oauth-http.ts";

/** A sentence about why egress would not call a URL; null: it would. */
export type UrlFault = (url: string) => string | null;

/**
 * One metadata document. Null: it is not there, by a status of which `isAbsent` says so. Anything else that is not a JSON
 * object is a fault: a server in trouble must not look like one without metadata.
 */
export async function fetchDocument(
  out: Outgoing,
  url: URL,
  isAbsent: (status: number) => boolean,
): Promise<JsonObject | null> {
  const { status, text } = await ask(out, url.href, {
    method: "GET",
    headers: { accept: "application/json" },
  });
  if (isAbsent(status)) return null;
  const said = `${url.host} answered with status ${status} instead of its metadata.`;
  if (status >= 500 || status === 429 || status === 408) throw transient(said, "unknown");
  if (status !== 200) throw broken(said);
  const document = objectOf(text);
  if (!document) throw broken(`The metadata of ${url.host} is not a JSON object.`);
  return document;
}

/** The well-known URI of a name: inserted between host and path, whose last slash goes (RFC 8414, 3.1; RFC 9728, 3.1). */
export function insertedWellKnown(url: URL, name: string): URL {
  return withPath(url, `/.well-known/${name}${pathOf(url)}`);
}

/** The same URL with another path. Never by resolving: a path that begins with two slashes would name a host. */
export function withPath(url: URL, path: string): URL {
  const other = new URL(url);
  other.pathname = path;
  return other;
}

/** A path without its last slash; empty for the root. */
export const pathOf = (url: URL) => url.pathname.replace(/\/$/, "");
