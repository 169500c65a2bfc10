import type { JsonObject } from "../core/json.ts";
import type { ProtectedResource } from "../core/oauth.ts";
import { fetchDocument, insertedWellKnown, pathOf, type UrlFault } from "./discovery.ts";
import { textsOf, wordsOf } from "./oauth-answer.ts";
import { broken } from "./oauth-failures.ts";
import type { Outgoing } from "./oauth-http.ts";

export type Challenge = { resourceMetadata: string | null; scope: string | null } | null;

/**
 * What a protected server says of itself: at the place that its challenge names, which must be its own; else at the
 * well-known URIs, with its path first (MCP 2026-07-28, Protected Resource Metadata Discovery). Null: neither is there.
 */
export async function discoverResource(
  out: Outgoing,
  { target, challenge, urlFault }: { target: string; challenge: Challenge; urlFault: UrlFault },
): Promise<ProtectedResource | null> {
  const server = URL.parse(target);
  if (!server) throw broken("The server's address is not a URL.");
  const named = challenge?.resourceMetadata ?? null;
  if (named !== null) {
    const url = namedUrl(named, server);
    const document = await fetchDocument(out, url, () => false);
    return document && readResource(document, { server, challenge, urlFault });
  }
  for (const url of resourceUrls(server)) {
    const document = await fetchDocument(out, url, (status) => NOT_THERE.includes(status));
    if (document) return readResource(document, { server, challenge, urlFault });
  }
  return null;
}

/** RFC 9728, 3.1: with the server's path and query, then at the root. */
export function resourceUrls(server: URL): URL[] {
  const specific = insertedWellKnown(server, NAME);
  const root = new URL(`/.well-known/${NAME}`, server);
  return specific.href === root.href ? [root] : [specific, root];
}

/** A challenge is the server's own word only about its own origin: elsewhere it could name anybody's metadata. */
function namedUrl(named: string, server: URL): URL {
  const url = URL.parse(named);
  if (!url) throw broken(`The challenge of ${server.host} names a resource_metadata that is not a URL.`);
  if (url.origin !== server.origin) {
    throw broken(
      `The challenge of ${server.host} names a resource_metadata of another origin (${url.origin}).`,
    );
  }
  return url;
}

function readResource(
  document: JsonObject,
  { server, challenge, urlFault }: { server: URL; challenge: Challenge; urlFault: UrlFault },
): ProtectedResource {
  const { resource } = document;
  if (typeof resource !== "string" || !covers(resource, server)) {
    throw broken(`The metadata of ${server.host} is about another resource (RFC 9728, 3.3).`);
  }
  const authorizationServers = textsOf(document["authorization_servers"]);
  if (!authorizationServers || authorizationServers.length === 0) {
    throw broken(`The metadata of ${server.host} names no authorization_servers.`);
  }
  for (const issuer of authorizationServers) {
    const fault = urlFault(issuer);
    if (fault !== null) throw broken(`The metadata of ${server.host} names an unusable issuer: ${fault}`);
  }
  const asked = wordsOf(challenge?.scope ?? "");
  return {
    resource,
    authorizationServers,
    // The challenge decides for its operation; it need not be a part of what the metadata lists.
    scopes: asked.length > 0 ? asked : textsOf(document["scopes_supported"]),
  };
}

/** Whether `resource` is the server or a parent of it: the same origin, and its path whole segments of the server's. */
function covers(resource: string, server: URL): boolean {
  const named = URL.parse(resource);
  if (!named || named.origin !== server.origin || named.hash !== "") return false;
  if (named.search !== "" && named.search !== server.search) return false;
  return `${pathOf(server)}/`.startsWith(`${pathOf(named)}/`);
}

const NAME = "oauth-protected-resource";
const NOT_THERE = [404, 405, 410];
