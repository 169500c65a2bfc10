/**
 * Why no identity of ours may have tokens for this audience, as what would be right; null: it may (DESIGN 11). Asked when a
 * connection is written and again when a token is made, so that no row from elsewhere gets round it.
 *
 * A server may compare audiences loosely, so they are compared loosely here: whatever the case, the scheme, the usual port,
 * slashes at the end, a dot at the end of the host, or `/.default`.
 *
 * `callers`: the audiences of the tokens with which callers come to the project.
 */
export function audienceFault(
  audience: string,
  { publicUrl, callers }: { publicUrl: string; callers: readonly string[] },
): string | null {
  if (!/^[\x21-\x7e]{1,512}$/.test(audience)) {
    return "must have 1 to 512 printable ASCII characters, none of them a blank";
  }
  const places = placesOf(audience);
  const isAt = (taken: string) =>
    placesOf(taken).some((own) => places.some(({ host, port }) => host === own.host && port === own.port));
  if (isAt(publicUrl))
    return "must not be this broker, or anything below its address: its tokens open no door of its own";
  if (places.some(({ host }) => CONTROL_PLANES.has(host))) {
    return "must not be Foundry's or Azure's control plane: name the resource that the server itself is";
  }
  if (callers.some((taken) => isSame(audience, taken))) {
    return "must not be an audience of this project's callers: such a token could be used to call the broker";
  }
  return null;
}

/** What Azure's own tools are let in with, in every national cloud, and the same by application id. */
const CONTROL_PLANES = new Set([
  "ai.azure.com",
  "ai.azure.us",
  "ai.azure.cn",
  "management.azure.com",
  "management.core.windows.net",
  "management.usgovcloudapi.net",
  "management.core.usgovcloudapi.net",
  "management.chinacloudapi.cn",
  "management.core.chinacloudapi.cn",
  "management.microsoftazure.de",
  "management.core.cloudapi.de",
  "797f4846-ba00-4fd7-ba43-dac1f8f63013", // Azure Resource Manager
  "18a66f5f-dbdf-4c17-9dd7-1634712a9cbe", // Azure Machine Learning, which ai.azure.com belongs to
]);

type Place = { host: string; port: string; path: string };

function isSame(one: string, other: string): boolean {
  if (bareOf(one) === bareOf(other)) return true;
  return placesOf(one).some((a) =>
    placesOf(other).some((b) => a.host === b.host && a.port === b.port && a.path === b.path),
  );
}

/**
 * Where an audience may be meant to be. `localhost:8787` is a host and a port, or a scheme and a path: it counts as both. A URL
 * may have a word before it, as in Entra's `spn:https://…`.
 */
function placesOf(audience: string): Place[] {
  const bare = bareOf(audience).replace(/^[a-z]+:(?=[a-z][a-z0-9+.-]*:[/\\])/, "");
  const rest = bare.replace(/^[a-z][a-z0-9+.-]*:[/\\]*/, "");
  const isUrl = /^[a-z][a-z0-9+.-]*:[/\\]/.test(bare);
  return (isUrl ? [rest] : [rest, bare]).flatMap((place) => {
    // As https, of which the parser reads percent signs, backslashes and odd spellings of addresses as a browser does.
    const written = `https://${place}`;
    if (!URL.canParse(written)) return [];
    const { hostname, port, pathname } = new URL(written);
    return [
      {
        host: hostname.replace(/\.+$/, "").replace(LOOPBACK, "localhost"),
        port: USUAL_PORTS.has(port) ? "" : port,
        path: pathname.replace(/\/+$/, ""),
      },
    ];
  });
}

/** This machine by any of its usual names. */
const LOOPBACK = /^(?:127\.\d+\.\d+\.\d+|\[::1\])$/;
const USUAL_PORTS = new Set(["443", "80"]);

function bareOf(audience: string): string {
  return audience
    .toLowerCase()
    .replace(/\/+$/, "")
    .replace(/\/\.default$/, "")
    .replace(/\/+$/, "");
}
