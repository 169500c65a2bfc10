// How settings that are hosts, URLs and paths are read. Pure.

/** `localhost`, `*.localhost`, 127.0.0.0/8 or ::1. */
export function isLoopback(host: string): boolean {
  const name = hostnameOf(host);
  return name !== null && /^(localhost|.+\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(name);
}

/** A host as URLs write it; null when it is none. */
export function hostnameOf(host: string): string | null {
  if (/[\s/?#@\\%]/.test(host)) return null;
  const bracketed = /^[^[].*:/.test(host) || host.startsWith("::") ? `[${host}]` : host;
  const url = URL.parse(`http://${bracketed}`);
  return url && url.port === "" ? url.hostname : null;
}

/** `file:./a`, `file:/a` and `file:///a` → the path; null for anything else. */
export function pathOf(text: string): string | null {
  const path = /^file:(?:\/\/(?=\/))?((?!\/\/)[^?#]+)$/.exec(text)?.[1] ?? null;
  return path === null || path.startsWith(":") || path.endsWith("/") ? null : path;
}

/** An absolute URL of one of these protocols; of HTTP without user, password and fragment. */
export function isUrl(text: string, ...protocols: string[]): boolean {
  const url = URL.parse(text);
  if (!url || !protocols.includes(url.protocol)) return false;
  return !url.protocol.startsWith("http") || (url.username === "" && url.password === "" && url.hash === "");
}

export function isOrigin(text: string): boolean {
  return isUrl(text, "http:", "https:") && new URL(text).pathname === "/" && !/[?#]/.test(text);
}

/** Without user, password and query. */
export function shown(text: string): string {
  const url = new URL(text);
  return `${url.protocol}//${url.host}${url.pathname}`;
}
