/** Whether a request may name this authority (`host[:port]`, lower case). */
export type HostCheck = (host: string) => boolean;

/**
 * The names under which we are reached (DESIGN 12): the public URL's, the listening one, and those an operator adds.
 * A name that merely resolves to us is a rebinding attack (A18), so nothing is derived from a request.
 */
export function allowHosts(options: {
  publicUrl: string;
  listening: { host: string; port: number };
  extra: readonly string[];
}): HostCheck {
  const { protocol, host, hostname } = new URL(options.publicUrl);
  const allowed = new Set([host, ...options.extra.map((name) => name.toLowerCase())]);
  const { host: bound, port } = options.listening;
  const isDefaultPort = host === hostname;
  if (isDefaultPort) allowed.add(`${hostname}:${protocol === "https:" ? 443 : 80}`);
  allowed.add(`${bound.includes(":") ? `[${bound}]` : bound}:${port}`.toLowerCase());
  if (LOOPBACK.has(bound))
    for (const name of ["localhost", "127.0.0.1", "[::1]"]) allowed.add(`${name}:${port}`);
  return (name) => allowed.has(name);
}

const LOOPBACK = new Set(["localhost", "127.0.0.1", "::1"]);

/**
 * Whether the request's authority is ours, by the Host header and by an absolute request target alike, and whether a
 * page that sent it (Origin) is ours. There is no CORS: no other site's page has business here. Pages without a referrer, as
 * ours are, send `Origin: null` with their forms (Fetch, 3.2): then the browser says in `Sec-Fetch-Site`, which no page can
 * write, whether it was one of this origin.
 */
export function isAtHome(request: Request, isOurs: HostCheck): boolean {
  const url = request.url;
  const start = url.indexOf("//") + 2;
  const end = url.indexOf("/", start);
  if (!isOurs(url.slice(start, end === -1 ? undefined : end).toLowerCase())) return false;
  const host = request.headers.get("host");
  if (host !== null && !isOurs(host.toLowerCase())) return false;
  const origin = request.headers.get("origin");
  if (origin === "null") return request.headers.get("sec-fetch-site") === "same-origin";
  return origin === null || isOurs(authorityOf(origin));
}

/** `https://a.example:8443` → `a.example:8443`. Anything else has none. */
function authorityOf(origin: string): string {
  return /^https?:\/\/([^/?#@]+)$/i.exec(origin)?.[1]?.toLowerCase() ?? "";
}
