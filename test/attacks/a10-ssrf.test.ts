import { networkInterfaces } from "node:os";
import { afterEach, describe, expect, test } from "vitest";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress, type Lookup } from "../../src/upstream/egress.node.ts";
import { EgressError, type Egress, type EgressLimits } from "../../src/upstream/egress.ts";
import { startHttpServer } from "../helpers/http-server.ts";

// A10: a URL from an admin, a user, a server or metadata aims at the inside. Nothing may be connected, not even once.

const LIMITS: EgressLimits = { totalMs: 5_000, idleMs: 5_000, maxBytes: 1_000_000, maxDepth: 20 };
const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function createEgress(
  options: { allow?: string; lookup?: Lookup; own?: { host: string; port: number }[] } = {},
): Egress {
  const { allow = "", own = [], ...rest } = options;
  const egress = createNodeEgress({ allow: parseEgressAllow(allow), own, connectMs: 2_000, ...rest });
  cleanups.push(egress.close);
  return egress;
}

async function serve() {
  const server = await startHttpServer((_, response) => response.end("the inside"));
  cleanups.push(server.stop);
  return server;
}

async function reasonOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => "answered",
    (thrown: unknown) => thrown,
  );
  return error instanceof EgressError ? error.reason : String(error);
}

// Every way to write 127.0.0.1 and 169.254.169.254 that a URL or a resolver understands.
const DISGUISES = [
  "127.0.0.1",
  "127.1",
  "127.0.1",
  "0177.0.0.1",
  "0x7f.0.0.1",
  "0x7f.1",
  "2130706433",
  "017700000001",
  "0x7f000001",
  "127.0.0.1.",
  "１２７.０.０.１",
  "127。0。0。1",
  "127%2e0%2e0%2e1",
  "0.0.0.0",
  "0",
  "[::1]",
  "[::]",
  "[0:0:0:0:0:0:0:1]",
  "[::ffff:127.0.0.1]",
  "[::ffff:7f00:1]",
  "[::127.0.0.1]",
  "[64:ff9b::127.0.0.1]",
  "[64:ff9b:1::127.0.0.1]",
  "[2002:7f00:1::]",
  "169.254.169.254",
  "0xa9fea9fe",
  "2852039166",
  "025177524776",
  "[::ffff:169.254.169.254]",
  "[fd00:ec2::254]",
  "[fe80::1]",
  "100.100.100.200",
  "168.63.129.16",
  "10.0.0.1",
  "192.168.0.1",
  "172.16.0.1",
];

describe("an address in any disguise", () => {
  test.each(DISGUISES)("https://%s is refused before a connection", async (host) => {
    const server = await serve();
    const { fetch } = createEgress();
    expect(await reasonOf(fetch(LIMITS)(`https://${host}:${server.port}/`))).toBe("refused");
    expect(await reasonOf(fetch(LIMITS)(`http://${host}:${server.port}/`))).toBe("refused");
    expect(server.sockets).toHaveLength(0);
  });
});

describe("a name that leads inside", () => {
  test.each([
    ["loopback", ["127.0.0.1"]],
    ["loopback over IPv6", ["::1"]],
    ["any address of this machine", ["0.0.0.0"]],
    ["a private network", ["10.0.0.1"]],
    ["a unique local network", ["fd12::1"]],
    ["metadata", ["169.254.169.254"]],
    ["mapped loopback", ["::ffff:127.0.0.1"]],
    ["loopback through NAT64", ["64:ff9b::7f00:1"]],
    ["one private address among public ones", ["93.184.215.14", "2606:4700::1111", "127.0.0.1"]],
    ["one private address before public ones", ["127.0.0.1", "93.184.215.14"]],
    ["something that is no address", ["fe80::1%lo"]],
  ])("is refused when it resolves to %s", async (_, addresses) => {
    const server = await serve();
    const lookup = async () =>
      addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
    const { fetch } = createEgress({ lookup });
    expect(await reasonOf(fetch(LIMITS)(`https://mcp.example.com:${server.port}/`))).toBe("refused");
    expect(server.sockets).toHaveLength(0);
  });

  test("does not tell the caller which address it was", async () => {
    const { fetch } = createEgress({ lookup: async () => [{ address: "10.77.88.99", family: 4 }] });
    await expect(fetch(LIMITS)("https://mcp.example.com/")).rejects.toThrow(
      "mcp.example.com leads to a private or reserved address. To allow it, add mcp.example.com to CONSENTRY_EGRESS_ALLOW.",
    );
    await expect(fetch(LIMITS)("https://mcp.example.com/")).rejects.not.toThrow("10.77");
  });
});

describe("what is allowed", () => {
  test("does not open its neighbours: loopback opens no name that leads to loopback", async () => {
    const server = await serve();
    const lookup = async () => [{ address: "127.0.0.1", family: 4 }];
    const { fetch } = createEgress({ allow: "loopback", lookup });
    expect(await (await fetch(LIMITS)(`http://127.0.0.1:${server.port}/`)).text()).toBe("the inside");
    expect(await (await fetch(LIMITS)(`http://localhost:${server.port}/`)).text()).toBe("the inside");
    const before = server.sockets.length;
    expect(await reasonOf(fetch(LIMITS)(`https://mcp.example.com:${server.port}/`))).toBe("refused");
    expect(server.sockets).toHaveLength(before);
  });

  test("never includes metadata, by address or by name", async () => {
    const lookup = async () => [{ address: "169.254.169.254", family: 4 }];
    const { fetch } = createEgress({ allow: "*,loopback,http://mcp.example.com,0.0.0.0/0", lookup });
    for (const url of [
      "https://mcp.example.com/",
      "http://mcp.example.com/",
      "https://169.254.169.254/",
      "https://metadata.google.internal/",
    ]) {
      expect(await reasonOf(fetch(LIMITS)(url))).toBe("refused");
    }
  });

  test("never includes the broker itself, by whatever name or address", async () => {
    const server = await serve();
    const lookup = async () => [{ address: "127.0.0.1", family: 4 }];
    for (const host of ["127.0.0.1", "localhost", "0.0.0.0", "::"]) {
      const { fetch } = createEgress({ allow: "loopback,*", lookup, own: [{ host, port: server.port }] });
      for (const url of [
        "http://127.0.0.1",
        "http://127.0.0.9",
        "http://localhost",
        "http://x.localhost",
        "https://mcp.example.com",
      ]) {
        expect(await reasonOf(fetch(LIMITS)(`${url}:${server.port}/`))).toBe("refused");
      }
    }
    expect(server.sockets).toHaveLength(0);
  });

  const mine = Object.values(networkInterfaces())
    .flat()
    .find((address) => address?.family === "IPv4" && !address.internal)?.address;
  test.skipIf(mine === undefined)("never includes it by this machine's address in the network", async () => {
    const { fetch } = createEgress({
      allow: `http://${mine}:8787,${mine}`,
      own: [{ host: "0.0.0.0", port: 8787 }],
    });
    await expect(fetch(LIMITS)(`http://${mine}:8787/`)).rejects.toThrow("is this broker itself");
    await expect(fetch(LIMITS)(`https://${mine}:8787/`)).rejects.toThrow("is this broker itself");
  });
});

test("only https and plain URLs are called", async () => {
  const { fetch } = createEgress({ allow: "loopback,*" });
  for (const url of [
    "file:///etc/passwd",
    "data:application/json,{}",
    "javascript:1",
    "ftp://mcp.example.com/",
    "gopher://mcp.example.com/",
    "https://user:pass@mcp.example.com/",
    "https://mcp.example.com@127.0.0.1/",
    "http:127.0.0.1@mcp.example.com/",
    "//mcp.example.com/",
    "",
  ]) {
    expect(await reasonOf(fetch(LIMITS)(url))).toBe("refused");
  }
});

test("ports of other services are not called", async () => {
  const lookup = async () => [{ address: "127.0.0.1", family: 4 }];
  const { fetch } = createEgress({ allow: "127.0.0.0/8", lookup });
  for (const port of [22, 25, 53, 80, 389, 445, 993]) {
    expect(await reasonOf(fetch(LIMITS)(`https://mcp.example.com:${port}/`))).toBe("refused");
  }
});
