import {
  embeddedIPv4,
  isMetadata,
  isNat64,
  parseAddress,
  parseRange,
  type AddressRange,
} from "./egress-addresses.ts";

/** What `CONSENTRY_EGRESS_ALLOW` lifts, parsed. Nothing here lifts the block of metadata addresses. */
export type EgressAllow = {
  /** `*`: private addresses, internal names and all ports, over https. */
  any: boolean;
  /** `loopback`: this machine, over http too, on any port. */
  loopback: boolean;
  /** `host` and `*.host`: their private addresses and all their ports, over https. */
  hosts: HostPattern[];
  /** `http://host[:port]`: plain http to exactly this host and port. */
  plain: (HostPattern & { port: number })[];
  /** `10.0.0.0/8`: these addresses, whatever name leads there, over https. */
  ranges: AddressRange[];
};

/** `suffix` begins with a dot when `wild`: `*.example.com` is every name under example.com, not that name itself. */
export type HostPattern = { wild: boolean; name: string };

export const NOTHING_ALLOWED: EgressAllow = { any: false, loopback: false, hosts: [], plain: [], ranges: [] };

/** The entries that cannot be read, each with what would be right. */
export class EgressAllowError extends Error {
  readonly faults: { entry: string; message: string }[];
  constructor(faults: { entry: string; message: string }[]) {
    super(faults.map(({ entry, message }) => `"${entry}" ${message}`).join("; "));
    this.name = "EgressAllowError";
    this.faults = faults;
  }
}

/**
 * Reads a comma list of `loopback`, `host`, `*.host`, address, CIDR, `http://host[:port]` and `*`. Empty text allows
 * nothing beyond the public internet. Throws `EgressAllowError` with every fault.
 */
export function parseEgressAllow(text: string): EgressAllow {
  const entries = text
    .split(",")
    .map((entry) => entry.trim().toLowerCase())
    .filter((entry) => entry !== "");
  const read = entries.map((entry) => ({ entry, result: readEntry(entry) }));
  const faults = read.flatMap(({ entry, result }) =>
    typeof result === "string" ? [{ entry, message: result }] : [],
  );
  if (faults.length > 0) throw new EgressAllowError(faults);
  const parts = read.flatMap(({ result }) => (typeof result === "string" ? [] : [result]));
  return {
    any: parts.some((part) => part.any),
    loopback: parts.some((part) => part.loopback),
    hosts: parts.flatMap((part) => part.hosts ?? []),
    plain: parts.flatMap((part) => part.plain ?? []),
    ranges: parts.flatMap((part) => part.ranges ?? []),
  };
}

export function matchesHost(host: string, pattern: HostPattern): boolean {
  return pattern.wild
    ? host.endsWith(pattern.name) && host.length > pattern.name.length
    : host === pattern.name;
}

/** A part of the list, or a sentence about what is wrong with the entry. */
function readEntry(entry: string): Partial<EgressAllow> | string {
  if (entry === "*") return { any: true };
  if (entry === "loopback") return { loopback: true };
  if (entry.startsWith("http://")) return readPlain(entry);
  if (entry.includes("://")) return "is a URL; write the host alone (https needs no scheme)";
  if (entry.includes("/") || parseAddress(entry.replace(/^\[(.*)\]$/, "$1"))) return readRange(entry);
  if (/:\d+$/.test(entry)) return "names a port; write the host alone, or http://host:port for plain http";
  return readHost(entry);
}

function readHost(entry: string): Partial<EgressAllow> | string {
  const pattern = readPattern(entry);
  return pattern ? { hosts: [pattern] } : HOST_FAULT;
}

function readPlain(entry: string): Partial<EgressAllow> | string {
  const match = /^http:\/\/(\[[^\]]+\]|[^/:?#@]+)(?::(\d{1,5}))?\/?$/.exec(entry);
  const pattern = readPattern(match?.[1] ?? "");
  const port = Number(match?.[2] ?? 80);
  if (!pattern || port < 1 || port > 65_535) return "must be http://host or http://host:port, without a path";
  const address = parseAddress(bare(pattern.name));
  if (address && isMetadata(address)) return METADATA_FAULT;
  return { plain: [{ ...pattern, port }] };
}

function readRange(entry: string): Partial<EgressAllow> | string {
  const found = parseRange(entry.replace(/^\[(.*)\]$/, "$1"));
  if (!found)
    return "is not an address range; write for example 10.0.0.0/8 or fd00::/8, without bits beyond the length";
  if (isMetadata(found)) return METADATA_FAULT;
  if (isNat64(found) && found.length !== 96)
    return "must be the /96 prefix that this network translates with (RFC 6052)";
  if (embeddedIPv4(found) && !isNat64(found))
    return "is IPv4 inside IPv6, which is never dialled; write the IPv4 range";
  return { ranges: [found] };
}

/** A host as `URL` would write it, with or without `*.` in front. Null when it is none. */
function readPattern(text: string): HostPattern | null {
  const wild = text.startsWith("*.");
  const host = wild ? text.slice(2) : text;
  if (/[\s*/?#@\\]/.test(host)) return null;
  const name = URL.parse(`http://${host}`)?.hostname.replace(/\.$/, "") ?? "";
  if (name === "" || (wild && parseAddress(bare(name)))) return null;
  return wild ? { wild, name: `.${name}` } : { wild, name };
}

const bare = (hostname: string) => hostname.replace(/^\[(.*)\]$/, "$1");

const HOST_FAULT = "is not a host name; write for example mcp.example.com or *.example.com";
const METADATA_FAULT = "is link-local or a cloud's metadata service, which stays blocked";
