import { BlockList } from "node:net";
import { describe, expect, test } from "vitest";
import { inRange, parseAddress } from "../../src/upstream/egress-addresses.ts";
import { EgressAllowError, NOTHING_ALLOWED, parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { addressFault, checkUrl, type Listener } from "../../src/upstream/egress-rules.ts";
import { EgressError } from "../../src/upstream/egress.ts";

/** The refusal of a URL, or null when it may be called. */
function faultOf(url: string, allow = "", own: Listener[] = []): string | null {
  try {
    checkUrl(url, { allow: parseEgressAllow(allow), own });
    return null;
  } catch (error) {
    if (error instanceof EgressError && error.reason === "refused") return error.message;
    throw error;
  }
}

function mayDial(
  address: string,
  { url = "https://mcp.example.com/", allow = "", own = [] as Listener[] } = {},
) {
  const rules = { allow: parseEgressAllow(allow), own };
  return addressFault(address, { url: new URL(url), rules, local: ["192.168.7.7"] }) === null;
}

// The first and last address of every refused range, and its public neighbours. Written down again here, from the
// registries, so that a slip in the source's table shows.
const IPV4 = [
  { refused: ["0.0.0.0", "0.255.255.255"], beside: ["1.0.0.0"] },
  { refused: ["10.0.0.0", "10.255.255.255"], beside: ["9.255.255.255", "11.0.0.0"] },
  {
    refused: ["100.64.0.0", "100.100.100.200", "100.127.255.255"],
    beside: ["100.63.255.255", "100.128.0.0"],
  },
  { refused: ["127.0.0.0", "127.0.0.1", "127.255.255.255"], beside: ["126.255.255.255", "128.0.0.0"] },
  { refused: ["168.63.129.16"], beside: ["168.63.129.15", "168.63.129.17"] },
  {
    refused: ["169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255"],
    beside: ["169.253.255.255", "169.255.0.0"],
  },
  { refused: ["172.16.0.0", "172.31.255.255"], beside: ["172.15.255.255", "172.32.0.0"] },
  { refused: ["192.0.0.0", "192.0.0.192", "192.0.0.255"], beside: ["191.255.255.255", "192.0.1.0"] },
  { refused: ["192.0.2.0", "192.0.2.255"], beside: ["192.0.1.255", "192.0.3.0"] },
  { refused: ["192.88.99.0", "192.88.99.255"], beside: ["192.88.98.255", "192.88.100.0"] },
  { refused: ["192.168.0.0", "192.168.255.255"], beside: ["192.167.255.255", "192.169.0.0"] },
  { refused: ["198.18.0.0", "198.19.255.255"], beside: ["198.17.255.255", "198.20.0.0"] },
  { refused: ["198.51.100.0", "198.51.100.255"], beside: ["198.51.99.255", "198.51.101.0"] },
  { refused: ["203.0.113.0", "203.0.113.255"], beside: ["203.0.112.255", "203.0.114.0"] },
  { refused: ["224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255"], beside: ["223.255.255.255"] },
];

const IPV6 = [
  { refused: ["::", "::1", "::2", "100::", "64:ff9b::", "1fff:ffff::"], beside: [] },
  {
    refused: ["4000::", "5f00::1", "fc00::", "fd00:ec2::254", "fd20:ce::254", "fdff:ffff::1"],
    beside: ["3ffe::1"],
  },
  { refused: ["fe80::1", "febf::1", "fec0::1", "ff00::1", "ff02::1", "ffff:ffff::1"], beside: [] },
  { refused: ["2001::", "2001:0:ffff::1", "2001:1ff:ffff:ffff::1"], beside: ["2000:ffff::1", "2001:200::1"] },
  { refused: ["2001:db8::", "2001:db8:ffff::1"], beside: ["2001:db7:ffff::1", "2001:db9::1"] },
  { refused: ["3fff::", "3fff:fff:ffff::1"], beside: ["3ffe:ffff::1", "3fff:1000::1"] },
  // IPv4 inside IPv6, public or not: mapped, compatible, 6to4, both NAT64 prefixes.
  { refused: ["::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:a00:1", "::8.8.8.8", "::7f00:1"], beside: [] },
  { refused: ["2002:808:808::1", "2002:7f00:1::"], beside: ["2001:ffff::1", "2003::1"] },
  {
    refused: ["64:ff9b::8.8.8.8", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::a00:1"],
    beside: [],
  },
];

describe("addresses", () => {
  test.each([...IPV4, ...IPV6].flatMap(({ refused }) => refused))("%s is not dialled", (address) => {
    expect(mayDial(address)).toBe(false);
  });

  test.each([...IPV4, ...IPV6].flatMap(({ beside }) => beside))(
    "%s beside a refused range is public",
    (address) => {
      expect(mayDial(address)).toBe(true);
    },
  );

  test.each([
    "",
    "fe80::1%eth0",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "08.8.8.8",
    "8.8.8.8 ",
    "::g",
    "1::2::3",
    "[::1]",
  ])("%j is no address and is not dialled", (address) => {
    expect(mayDial(address, { allow: "*" })).toBe(false);
  });

  test("the matching agrees with Node's own, for ranges and addresses of all kinds", () => {
    const random = createRandom(7);
    for (let round = 0; round < 3000; round++) {
      const family = random(2) === 0 ? 4 : 6;
      const bytes = Array.from({ length: family === 4 ? 4 : 16 }, () => (random(3) === 0 ? 0 : random(256)));
      const length = random(bytes.length * 8 + 1);
      // One bit is flipped close to the end of the prefix: just inside, or just outside.
      const bit = Math.min(bytes.length * 8 - 1, Math.max(0, length - 2 + random(4)));
      const near = bytes.with(bit >> 3, (bytes[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7)));
      const [base, address] = [textOf(bytes), textOf(near)];
      const list = new BlockList();
      list.addSubnet(base, length, family === 4 ? "ipv4" : "ipv6");
      const [parsedBase, parsed] = [parseAddress(base), parseAddress(address)];
      if (!parsedBase || !parsed) throw new Error(`not read: ${base} ${address}`);
      const agrees =
        inRange(parsed, { ...parsedBase, length }) === list.check(address, family === 4 ? "ipv4" : "ipv6");
      expect({ base, length, address, agrees }).toEqual({ base, length, address, agrees: true });
    }
  });
});

describe("CONSENTRY_EGRESS_ALLOW", () => {
  test("empty allows nothing beyond the public internet", () => {
    expect(parseEgressAllow(" , ")).toEqual(NOTHING_ALLOWED);
    expect(faultOf("https://mcp.example.com/mcp")).toBeNull();
    expect(faultOf("https://mcp.example.com:8443/mcp")).toBeNull();
  });

  test("lists every entry that cannot be read, and says what would be right", () => {
    const text =
      "https://a.example,mcp.example.com:443,10.0.0.1/8,10.0.0.0/33,http://a.example/x,a b,*.,169.254.169.254";
    const error = faultsOf(text);
    expect(error.faults.map(({ entry }) => entry)).toEqual(text.split(","));
    expect(error.message).toContain('"10.0.0.1/8" is not an address range');
    expect(error.message).toContain('"169.254.169.254" is link-local or a cloud\'s metadata service');
  });

  test.each([
    "::ffff:10.0.0.0/104",
    "2002:a00::/24",
    "::7f00:0/104",
    "64:ff9b:1::/48",
    "64:ff9b::a9fe:a9fe",
    "http://169.254.169.254",
  ])("%s would dial IPv4 in disguise or metadata, and is refused", (entry) => {
    expect(() => parseEgressAllow(entry)).toThrow(EgressAllowError);
  });

  test("a host opens its private addresses and its ports, over https only", () => {
    expect(mayDial("10.1.2.3", { allow: "mcp.example.com" })).toBe(true);
    expect(mayDial("10.1.2.3", { allow: "example.com" })).toBe(false);
    expect(faultOf("https://wiki:22/", "wiki")).toBeNull();
    expect(faultOf("http://wiki/", "wiki")).toMatch(/add http:\/\/wiki to CONSENTRY_EGRESS_ALLOW/);
  });

  test("a wildcard means the names below, not the name itself", () => {
    expect(faultOf("https://a.corp.internal/", "*.corp.internal")).toBeNull();
    expect(faultOf("https://a.b.corp.internal/", "*.Corp.Internal")).toBeNull();
    expect(faultOf("https://corp.internal/", "*.corp.internal")).not.toBeNull();
    expect(faultOf("https://evilcorp.internal/", "*.corp.internal")).not.toBeNull();
  });

  test("a plain host opens http there, on that port, and nothing else", () => {
    const allow = "http://mcp.corp.internal:8080,http://old.example.com,http://*.svc:9000";
    expect(faultOf("http://mcp.corp.internal:8080/mcp", allow)).toBeNull();
    expect(faultOf("http://old.example.com/mcp", allow)).toBeNull();
    expect(faultOf("http://a.svc:9000/mcp", allow)).toBeNull();
    expect(faultOf("http://mcp.corp.internal:8081/mcp", allow)).not.toBeNull();
    expect(faultOf("https://mcp.corp.internal:8080/mcp", allow)).not.toBeNull();
    expect(faultOf("http://old.example.com:81/", allow)).not.toBeNull();
    expect(mayDial("10.0.0.1", { url: "http://old.example.com/", allow })).toBe(true);
    expect(mayDial("10.0.0.1", { url: "https://old.example.com/", allow })).toBe(false);
  });

  test("a range opens its addresses for every name, but no http and no internal names", () => {
    const allow = "10.0.0.0/8, fd12:3456::/32";
    expect(mayDial("10.9.9.9", { allow })).toBe(true);
    expect(mayDial("fd12:3456::1", { allow })).toBe(true);
    expect(mayDial("11.0.0.1", { allow })).toBe(true);
    expect(mayDial("192.168.0.1", { allow })).toBe(false);
    expect(faultOf("https://10.1.1.1:81/", allow)).toBeNull();
    expect(faultOf("https://[fd12:3456::1]/", allow)).toBeNull();
    expect(faultOf("http://10.1.1.1/", allow)).not.toBeNull();
    expect(faultOf("https://wiki/", allow)).not.toBeNull();
  });

  test("loopback means this machine by its loopback names, over http too", () => {
    for (const url of [
      "http://localhost:3000/",
      "http://a.localhost/",
      "http://127.9.9.9:1/",
      "http://[::1]:22/",
    ]) {
      expect(faultOf(url, "loopback")).toBeNull();
      expect(faultOf(url)).not.toBeNull();
    }
    expect(mayDial("127.0.0.1", { url: "http://localhost/", allow: "loopback" })).toBe(true);
    expect(mayDial("::1", { url: "http://localhost/", allow: "loopback" })).toBe(true);
    // Another name that leads to this machine is a rebinding, and localhost that leads elsewhere is a forgery.
    expect(mayDial("127.0.0.1", { allow: "loopback" })).toBe(false);
    expect(mayDial("10.0.0.1", { url: "http://localhost/", allow: "loopback" })).toBe(false);
    expect(faultOf("http://localhost.example.com/", "loopback")).not.toBeNull();
  });

  test("a NAT64 prefix that is named counts as the IPv4 address behind it", () => {
    const allow = "64:ff9b::/96,64:ff9b:1:2::/96,192.168.0.0/16";
    expect(mayDial("64:ff9b::8.8.8.8", { allow })).toBe(true);
    expect(mayDial("64:ff9b:1:2::8.8.8.8", { allow })).toBe(true);
    expect(mayDial("64:ff9b::192.168.1.1", { allow })).toBe(true);
    expect(mayDial("64:ff9b::10.0.0.1", { allow })).toBe(false);
    expect(mayDial("64:ff9b::127.0.0.1", { allow })).toBe(false);
    expect(mayDial("64:ff9b:1:3::8.8.8.8", { allow })).toBe(false);
    // A wider range is not the name of a translator, and other disguises have none.
    expect(mayDial("64:ff9b::8.8.8.8", { allow: "64::/16" })).toBe(false);
    expect(mayDial("::8.8.8.8", { allow: "::/96" })).toBe(false);
    expect(mayDial("64:ff9b::10.0.0.1", { allow: "64:ff9b::/96,mcp.example.com" })).toBe(true);
  });

  test.each([
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fe80::a9fe:a9fe",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
  ])("whatever is allowed, the metadata address %s stays blocked", (address) => {
    const allow =
      "*,loopback,mcp.example.com,*.example.com,0.0.0.0/0,fc00::/7,64:ff9b::/96,64:ff9b:1::/96,http://mcp.example.com";
    expect(mayDial(address, { allow })).toBe(false);
    expect(mayDial(address, { allow, url: "http://mcp.example.com/" })).toBe(false);
  });

  test("whatever is allowed, metadata names stay blocked", () => {
    for (const name of [
      "metadata.google.internal",
      "METADATA.google.internal.",
      "metadata.goog",
      "metadata",
    ]) {
      expect(faultOf(`https://${name}/`, `*,${name.toLowerCase()}`)).toMatch(/stays blocked/);
    }
  });

  test("a bare star opens private names, addresses and ports, and still asks for https", () => {
    expect(faultOf("https://wiki:22/", "*")).toBeNull();
    expect(mayDial("10.0.0.1", { allow: "*" })).toBe(true);
    expect(mayDial("::ffff:10.0.0.1", { allow: "*" })).toBe(false);
    expect(faultOf("http://mcp.example.com/", "*")).not.toBeNull();
  });
});

describe("our own listener", () => {
  const own = [
    { host: "127.0.0.1", port: 8787 },
    { host: "broker.example.com", port: 443 },
  ];
  const everywhere = [{ host: "0.0.0.0", port: 8787 }];

  test.each([
    "http://127.0.0.1:8787/",
    "http://localhost:8787/",
    "http://[::1]:8787/",
    "http://a.localhost:8787/",
    "http://127.1:8787/",
    "http://0x7f000001:8787/",
    "https://broker.example.com/",
    "https://BROKER.example.com./",
  ])("%s is not called, whatever is allowed", (url) => {
    expect(faultOf(url, "loopback,*,broker.example.com", own)).toMatch(/is this broker itself/);
  });

  test("a name that leads to it is not called either", () => {
    const rules = { url: "https://mcp.example.com:8787/", allow: "mcp.example.com" };
    expect(mayDial("127.0.0.1", { ...rules, own })).toBe(false);
    expect(mayDial("127.0.0.53", { ...rules, own })).toBe(false);
    expect(mayDial("::1", { ...rules, own: everywhere })).toBe(false);
    expect(mayDial("0.0.0.0", { ...rules, own })).toBe(false);
    expect(mayDial("192.168.7.7", { ...rules, own: everywhere })).toBe(false);
    expect(mayDial("192.168.7.7", { ...rules, own: [{ host: "192.168.7.7", port: 8787 }] })).toBe(false);
  });

  test("other ports and other machines are not it", () => {
    expect(faultOf("http://localhost:8788/", "loopback", own)).toBeNull();
    expect(faultOf("https://broker.example.com:8443/", "", own)).toBeNull();
    expect(
      mayDial("192.168.7.8", {
        url: "https://mcp.example.com:8787/",
        allow: "mcp.example.com",
        own: everywhere,
      }),
    ).toBe(true);
  });
});

describe("a URL", () => {
  test.each([
    ["", /cannot be read/],
    ["mcp.example.com", /cannot be read/],
    ["javascript:alert(1)", /Only https/],
    ["data:text/html,x", /Only https/],
    ["file:///etc/passwd", /Only https/],
    ["ftp://mcp.example.com/", /Only https/],
    ["wss://mcp.example.com/", /Only https/],
    ["http://mcp.example.com/mcp", /Use https, or add http:\/\/mcp\.example\.com to CONSENTRY_EGRESS_ALLOW/],
    ["https://user@mcp.example.com/", /must not hold a user name/],
    ["https://user:pass@mcp.example.com/", /must not hold a user name/],
    ["https://mcp.example.com:22/", /Port 22 of mcp\.example\.com .* add mcp\.example\.com/],
    ["https://mcp.example.com:80/", /Port 80/],
    ["https://localhost/", /internal name/],
    ["https://localhost./", /internal name/],
    ["https://a.localhost/", /internal name/],
    ["https://printer.local/", /internal name/],
    ["https://vault.internal/", /internal name/],
    ["https://nas.home.arpa/", /internal name/],
    ["https://kubernetes/", /internal name/],
    ["https://a..example.com/", /DNS/],
    ["https://mcp.example.com../", /DNS/],
    [`https://${"a".repeat(64)}.example.com/`, /DNS/],
    [`https://${"a.".repeat(130)}example.com/`, /DNS/],
  ])("%s is refused", (url, why) => {
    expect(faultOf(url)).toMatch(why);
  });

  test("comes back parsed, without a trailing dot", () => {
    const rules = { allow: NOTHING_ALLOWED, own: [] };
    expect(checkUrl("https://MCP.Example.com./a?b=c", rules).href).toBe("https://mcp.example.com/a?b=c");
  });

  test("never makes the check do anything but answer", () => {
    const random = createRandom(11);
    const pieces = [
      "https",
      "http",
      ":",
      "//",
      "@",
      "[",
      "]",
      "::",
      "127.0.0.1",
      "0x7f",
      ".",
      "%",
      "a",
      "🙂",
      "\u0000",
      "\\",
      "#",
      "?",
      "localhost",
      "999999",
      "ｅ",
      "xn--",
    ];
    for (let round = 0; round < 5000; round++) {
      const url = Array.from({ length: random(9) }, () => pieces[random(pieces.length)]).join("");
      const fault = faultOf(random(2) ? `https://${url}` : url, "loopback");
      expect(fault === null || fault.length > 0).toBe(true);
    }
  });
});

function faultsOf(text: string): EgressAllowError {
  try {
    parseEgressAllow(text);
  } catch (error) {
    if (error instanceof EgressAllowError) return error;
    throw error;
  }
  throw new Error("expected faults");
}

function textOf(bytes: number[]): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, at) => ((bytes[at * 2] ?? 0) << 8) | (bytes[at * 2 + 1] ?? 0));
  return groups.map((group) => group.toString(16)).join(":");
}

/** The same numbers every time: a failure can be looked at. */
function createRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
