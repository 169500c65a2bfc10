import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress, type Lookup } from "../../src/upstream/egress.node.ts";
import { EgressError, type EgressLimits } from "../../src/upstream/egress.ts";
import { selfSigned } from "../helpers/certificate.ts";
import { startHttpServer } from "../helpers/http-server.ts";

// A11: a name answers the check with one address and the connection with another. 127.0.0.1 stands for the address
// that may be dialled (a range is allowed, the name is not), 10.0.0.1 for the inside.

const LIMITS: EgressLimits = { totalMs: 5_000, idleMs: 5_000, maxBytes: 1_000_000, maxDepth: 20 };
const GOOD = [{ address: "127.0.0.1", family: 4 }];
const BAD = [{ address: "10.0.0.1", family: 4 }];

const certificate = selfSigned("mcp.example.com");
const cleanups: (() => Promise<void>)[] = [];
beforeEach(() => {
  const before = getCACertificates("default");
  setDefaultCACertificates([...before, certificate.cert]);
  cleanups.push(async () => setDefaultCACertificates(before));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A server, and an egress that resolves each time as `lookup` says for the first, second … look-up. */
async function createWorld(answers: (count: number) => Awaited<ReturnType<Lookup>>) {
  const server = await startHttpServer(({ path }, response) => {
    if (path === "/last") response.setHeader("connection", "close");
    response.end("the checked one");
  }, certificate);
  const lookups: string[] = [];
  const egress = createNodeEgress({
    allow: parseEgressAllow("127.0.0.1/32"),
    own: [],
    connectMs: 2_000,
    lookup: async (hostname) => answers(lookups.push(hostname)),
  });
  cleanups.push(server.stop, egress.close);
  return { server, lookups, fetch: egress.fetch(LIMITS), url: `https://mcp.example.com:${server.port}` };
}

async function outcomeOf(work: Promise<Response>): Promise<string> {
  try {
    return await (await work).text();
  } catch (error) {
    if (error instanceof EgressError) return error.reason;
    throw error;
  }
}

test("the socket goes to the address that was checked: there is no second look-up", async () => {
  const { fetch, url, lookups, server } = await createWorld((count) => (count === 1 ? GOOD : BAD));
  expect(await outcomeOf(fetch(url))).toBe("the checked one");
  expect(lookups).toEqual(["mcp.example.com"]);
  expect(server.sockets[0]?.localAddress).toBe("127.0.0.1");
});

test("a kept connection stays where it is when the name moves", async () => {
  const { fetch, url, lookups } = await createWorld((count) => (count === 1 ? GOOD : BAD));
  expect(await outcomeOf(fetch(url))).toBe("the checked one");
  // A turn of the loop, so that the connection is free again.
  await new Promise((resolve) => setImmediate(resolve));
  expect(await outcomeOf(fetch(url))).toBe("the checked one");
  expect(lookups).toHaveLength(1);
});

test("every new connection is checked again, and refused once the name points inside", async () => {
  const { fetch, url, lookups, server } = await createWorld((count) => (count === 1 ? GOOD : BAD));
  expect(await outcomeOf(fetch(`${url}/last`))).toBe("the checked one");
  await server.firstClosed;
  expect(await outcomeOf(fetch(url))).toBe("refused");
  expect(lookups).toHaveLength(2);
  expect(server.requests).toHaveLength(1);
});

test("a refusal does not stick when the name comes back", async () => {
  const { fetch, url } = await createWorld((count) => (count === 1 ? BAD : GOOD));
  expect(await outcomeOf(fetch(url))).toBe("refused");
  expect(await outcomeOf(fetch(url))).toBe("the checked one");
});

test("parallel calls to a name that flaps each get what their own look-up said", async () => {
  const { fetch, url, lookups, server } = await createWorld((count) => (count % 2 === 1 ? GOOD : BAD));
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => outcomeOf(fetch(url))));
  expect(outcomes.filter((outcome) => outcome === "refused")).toHaveLength(Math.floor(lookups.length / 2));
  expect(outcomes.filter((outcome) => outcome === "the checked one")).toHaveLength(server.requests.length);
  expect(new Set(outcomes)).toEqual(new Set(["refused", "the checked one"]));
});

test("an answer that mixes both is refused whole, in either order", async () => {
  const { fetch, url, server } = await createWorld((count) =>
    count === 1 ? [...GOOD, ...BAD] : [...BAD, ...GOOD],
  );
  expect(await outcomeOf(fetch(url))).toBe("refused");
  expect(await outcomeOf(fetch(url))).toBe("refused");
  expect(server.sockets).toHaveLength(0);
});
