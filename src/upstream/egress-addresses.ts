/** An IP address, or the first address of a range, as a number. */
export type Address = { family: 4 | 6; bits: bigint };

/** A CIDR block. */
export type AddressRange = Address & { length: number };

/**
 * Reads an address in the forms that `URL` and resolvers give: dotted IPv4, any IPv6. Null for everything else, zone
 * ids included, so that what cannot be judged is not dialled.
 */
export function parseAddress(text: string): Address | null {
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(text)) return parseIPv4(text);
  if (text.includes(":")) return parseIPv6(text);
  return null;
}

/** `10.0.0.0/8`, or one address as a range of its own. Null when malformed or when bits are set beyond the length. */
export function parseRange(text: string): AddressRange | null {
  const [base = "", length, ...rest] = text.split("/");
  const address = parseAddress(base);
  if (!address || rest.length > 0) return null;
  const width = widthOf(address);
  if (length === undefined) return { ...address, length: width };
  if (!/^\d{1,3}$/.test(length) || Number(length) > width) return null;
  const range = { ...address, length: Number(length) };
  return (range.bits >> hostBits(range)) << hostBits(range) === range.bits ? range : null;
}

export function inRange(address: Address, range: AddressRange): boolean {
  if (address.family !== range.family) return false;
  return address.bits >> hostBits(range) === range.bits >> hostBits(range);
}

export function sameAddress(a: Address, b: Address): boolean {
  return a.family === b.family && a.bits === b.bits;
}

/** Addresses of the public internet, by the IANA special-purpose registries. */
export function isPublic(address: Address): boolean {
  if (address.family === 4) return !SPECIAL_IPV4.some((range) => inRange(address, range));
  return inRange(address, GLOBAL_UNICAST) && !SPECIAL_IPV6.some((range) => inRange(address, range));
}

export function isLoopback(address: Address): boolean {
  return LOOPBACK.some((range) => inRange(address, range));
}

/** `0.0.0.0` and `::`: as a destination, the kernel takes them for this machine. */
export function isUnspecified(address: Address): boolean {
  return address.bits === 0n;
}

/** Where clouds hand out credentials. No configuration opens these, in no disguise. */
export function isMetadata(address: Address): boolean {
  const embedded = embeddedIPv4(address);
  if (embedded) return isMetadata(embedded);
  return METADATA.some((range) => inRange(address, range));
}

/** The IPv4 address that an IPv6 address carries: mapped, compatible, 6to4, NAT64 (RFC 4291, 3056, 6052). */
export function embeddedIPv4(address: Address): Address | null {
  if (address.family === 4 || address.bits <= 1n) return null; // `::` and `::1` are themselves
  const form = EMBEDDINGS.find(({ range }) => inRange(address, range));
  if (!form) return null;
  return { family: 4, bits: (address.bits >> form.shift) & 0xffff_ffffn };
}

/** The translation prefixes of RFC 6052 and RFC 8215. */
export function isNat64(address: Address): boolean {
  return NAT64.some((range) => inRange(address, range));
}

function parseIPv4(text: string): Address | null {
  const parts = text.split(".").map(Number);
  if (parts.some((part) => part > 255)) return null;
  // A leading zero is octal to some readers and decimal to others.
  if (parts.join(".") !== text) return null;
  return { family: 4, bits: parts.reduce((bits, part) => (bits << 8n) | BigInt(part), 0n) };
}

function parseIPv6(text: string): Address | null {
  const url = URL.parse(`http://[${text}]`);
  if (!url) return null;
  // The URL standard has brought it to hexadecimal groups with at most one "::".
  const [head = "", tail] = url.hostname.slice(1, -1).split("::");
  const groupsOf = (part: string) => (part === "" ? [] : part.split(":"));
  const before = groupsOf(head);
  const after = groupsOf(tail ?? "");
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => "0");
  const groups = [...before, ...zeros, ...after];
  return { family: 6, bits: groups.reduce((bits, group) => (bits << 16n) | BigInt(`0x${group}`), 0n) };
}

const widthOf = ({ family }: Address) => (family === 4 ? 32 : 128);
const hostBits = (range: AddressRange) => BigInt(widthOf(range) - range.length);

function range(text: string): AddressRange {
  const parsed = parseRange(text);
  if (!parsed) throw new Error(`not a range: ${text}`);
  return parsed;
}

const LOOPBACK = ["127.0.0.0/8", "::1"].map(range);

const SPECIAL_IPV4 = [
  "0.0.0.0/8", // this network
  "10.0.0.0/8",
  "100.64.0.0/10", // carrier NAT
  "127.0.0.0/8",
  "168.63.129.16", // Azure's platform endpoint, on a public address
  "169.254.0.0/16", // link-local, metadata
  "172.16.0.0/12",
  "192.0.0.0/24", // IETF protocol assignments
  "192.0.2.0/24", // documentation
  "192.88.99.0/24", // 6to4 relays
  "192.168.0.0/16",
  "198.18.0.0/15", // benchmarking
  "198.51.100.0/24", // documentation
  "203.0.113.0/24", // documentation
  "224.0.0.0/4", // multicast
  "240.0.0.0/4", // reserved, broadcast
].map(range);

/** Everything outside of it is refused: loopback, unique local, link-local, multicast, discard, mapped, NAT64 … */
const GLOBAL_UNICAST = range("2000::/3");
const SPECIAL_IPV6 = [
  "2001::/23", // Teredo, ORCHID, benchmarking
  "2001:db8::/32", // documentation
  "2002::/16", // 6to4
  "3fff::/20", // documentation
].map(range);

const METADATA = [
  "169.254.0.0/16", // most clouds, container and pod credentials
  "100.100.100.200", // Alibaba Cloud
  "168.63.129.16", // Azure
  "192.0.0.192", // Oracle Cloud
  "fd00:ec2::/32", // Amazon: 254 instance, 23 pods
  "fd20:ce::254", // Google Cloud
  "fe80::/10", // link-local
].map(range);

const NAT64 = ["64:ff9b::/96", "64:ff9b:1::/48"].map(range);
const EMBEDDINGS = [
  { range: range("::ffff:0:0/96"), shift: 0n },
  { range: range("::/96"), shift: 0n },
  { range: range("2002::/16"), shift: 80n },
  ...NAT64.map((prefix) => ({ range: prefix, shift: 0n })),
];
