import {
  embeddedIPv4,
  inRange,
  isLoopback,
  isMetadata,
  isNat64,
  isPublic,
  isUnspecified,
  parseAddress,
  sameAddress,
  type Address,
} from "./egress-addresses.ts";
import { matchesHost, type EgressAllow } from "./egress-allow.ts";
import { EgressError } from "./egress.ts";

/**
 * Where calls may go. `own`: where this broker listens and what its public URL names; never called. `onlyNamed`: nowhere but where
 * `allow` says, and `*` says nothing, for a runtime that does not let us see the address that a name leads to.
 */
export type EgressRules = { allow: EgressAllow; own: Listener[]; onlyNamed?: boolean };

/** `host` is a lower-case name or an address; `0.0.0.0` and `::` stand for every address of this machine. */
export type Listener = { host: string; port: number };

/**
 * Judges a URL by what it says, before any look-up, when it is saved and again when it is called. Gives it back parsed,
 * without a trailing dot. Throws `EgressError("refused")`; the sentence says what would allow it.
 */
export function checkUrl(url: string | URL, rules: EgressRules): URL {
  const target = parsed(url);
  const fault = target ? faultOf(target, rules) : UNREADABLE;
  if (!target || fault !== null) throw refused(fault ?? UNREADABLE);
  return target;
}

/** The same judgement, as the sentence alone. Null: it may be called. */
export function targetFault(url: string, rules: EgressRules): string | null {
  const target = parsed(url);
  return target ? faultOf(target, rules) : UNREADABLE;
}

function parsed(url: string | URL): URL | null {
  const target = URL.parse(url);
  if (target?.hostname.endsWith(".")) target.hostname = target.hostname.slice(0, -1);
  return target;
}

const UNREADABLE = "The URL cannot be read.";

/** Where a public URL leads: to us. */
export function listenerOf(publicUrl: string): Listener {
  const { hostname, port, protocol } = new URL(publicUrl);
  return { host: hostname, port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port) };
}

/**
 * Judges an address that a checked URL leads to. Null: it may be dialled; otherwise the reason as a sentence, which
 * does not tell the address. `local`: the addresses of this machine's interfaces.
 */
export function addressFault(
  address: string,
  { url, rules, local }: { url: URL; rules: EgressRules; local: string[] },
): string | null {
  const host = url.host;
  const parsed = parseAddress(address);
  if (!parsed) return `${host} does not lead to an address that can be checked.`;
  if (isMetadata(parsed)) return `${host} leads to a link-local or metadata address, which stays blocked.`;
  if (isOwnAddress(parsed, portOf(url), rules.own, local)) return `${host} is this broker itself.`;
  if (mayDial(parsed, url, rules.allow)) return null;
  if (embeddedIPv4(parsed)) {
    return `${host} leads to an IPv4 address inside an IPv6 one. Only a NAT64 /96 prefix in ${SETTING} is called so.`;
  }
  return `${host} leads to a private or reserved address. To allow it, add ${url.hostname} to ${SETTING}.`;
}

function faultOf(url: URL, rules: EgressRules): string | null {
  const { host, hostname, protocol } = url;
  if (protocol !== "https:" && protocol !== "http:") return `Only https URLs are called, not ${protocol}`;
  if (url.username !== "" || url.password !== "")
    return `The URL of ${host} must not hold a user name or password.`;
  const literal = parseAddress(bare(hostname));
  if (!literal && METADATA_NAMES.has(hostname))
    return `${host} is a cloud's metadata service, which stays blocked.`;
  if (!literal && isOwnName(hostname, portOf(url), rules.own)) return `${host} is this broker itself.`;
  if (protocol === "http:" && !allowsPlain(url, rules.allow)) {
    return `${host} would be called without encryption. Use https, or add http://${host} to ${SETTING}.`;
  }
  const granted = isGranted(url, rules.allow);
  if (rules.onlyNamed && !isGranted(url, { ...rules.allow, any: false }))
    return `${hostname} is not named in ${SETTING}, and this broker calls nobody else. To allow it, add ${hostname} to ${SETTING}.`;
  if (!literal && !granted) {
    const why = nameFault(hostname);
    if (why !== null) return `${hostname} ${why}. To allow it, add ${hostname} to ${SETTING}.`;
  }
  if (!granted && portOf(url) < 1024 && portOf(url) !== 443) {
    return `Port ${portOf(url)} of ${hostname} is not called. To allow it, add ${hostname} to ${SETTING}.`;
  }
  return literal ? addressFault(bare(hostname), { url, rules, local: [] }) : null;
}

/** Whether the operator named this host: then its ports and its private addresses are open. */
function isGranted(url: URL, allow: EgressAllow): boolean {
  const host = url.hostname;
  if (allow.any || allow.hosts.some((pattern) => matchesHost(host, pattern))) return true;
  if (allow.loopback && isLoopbackHost(host)) return true;
  if (url.protocol === "http:") return allowsPlain(url, allow);
  const literal = parseAddress(bare(host));
  return literal !== null && allow.ranges.some((range) => inRange(literal, range));
}

function allowsPlain(url: URL, allow: EgressAllow): boolean {
  if (allow.loopback && isLoopbackHost(url.hostname)) return true;
  return allow.plain.some((entry) => entry.port === portOf(url) && matchesHost(url.hostname, entry));
}

function mayDial(address: Address, url: URL, allow: EgressAllow): boolean {
  if (isPublic(address)) return true;
  const embedded = embeddedIPv4(address);
  if (embedded) {
    // Only a network that translates names its own /96, and then the IPv4 address behind it is what counts.
    if (!isNat64(address)) return false;
    const prefix = allow.ranges.find((range) => range.length === 96 && inRange(address, range));
    return prefix !== undefined && mayDial(embedded, url, allow);
  }
  if (allow.ranges.some((range) => inRange(address, range))) return true;
  if (!isGranted(url, allow)) return false;
  // `loopback` speaks of this machine: a name under localhost that leads elsewhere is not meant.
  return isLoopback(address) || !isLoopbackHost(url.hostname);
}

function isOwnName(hostname: string, port: number, own: Listener[]): boolean {
  return own.some((listener) => {
    if (listener.port !== port) return false;
    return listener.host === hostname || (isLoopbackHost(hostname) && listensOnLoopback(listener.host));
  });
}

function isOwnAddress(address: Address, port: number, own: Listener[], local: string[]): boolean {
  const isThisMachine = isLoopback(address) || isUnspecified(address);
  return own.some((listener) => {
    if (listener.port !== port) return false;
    if (isThisMachine && listensOnLoopback(listener.host)) return true;
    const listening = parseAddress(bare(listener.host));
    if (!listening) return false;
    if (!isUnspecified(listening)) return sameAddress(address, listening);
    return local.some((text) => {
      const mine = parseAddress(text);
      return mine !== null && sameAddress(address, mine);
    });
  });
}

function listensOnLoopback(host: string): boolean {
  const address = parseAddress(bare(host));
  return address ? isLoopback(address) || isUnspecified(address) : isLoopbackHost(host);
}

function isLoopbackHost(hostname: string): boolean {
  const address = parseAddress(bare(hostname));
  if (address) return isLoopback(address);
  return hostname === "localhost" || hostname.endsWith(".localhost");
}

function nameFault(hostname: string): string | null {
  const labels = hostname.split(".");
  if (hostname.length > 253 || labels.some((label) => label.length === 0 || label.length > 63)) {
    return "is not a host name that DNS can hold";
  }
  if (labels.length === 1 || INTERNAL_SUFFIXES.some((suffix) => hostname.endsWith(suffix))) {
    return "is an internal name";
  }
  return null;
}

const portOf = (url: URL) => Number(url.port || (url.protocol === "http:" ? 80 : 443));
const bare = (hostname: string) => (hostname.startsWith("[") ? hostname.slice(1, -1) : hostname);
const refused = (message: string) => new EgressError("refused", message);

const SETTING = "CONSENTRY_EGRESS_ALLOW";
const INTERNAL_SUFFIXES = [".localhost", ".local", ".internal", ".home.arpa"];
const METADATA_NAMES = new Set([
  "metadata",
  "metadata.google.internal",
  "metadata.goog",
  "metadata.tencentyun.com",
  "instance-data",
  "instance-data.ec2.internal",
]);
