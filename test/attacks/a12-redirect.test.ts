import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { EgressError, type EgressLimits } from "../../src/upstream/egress.ts";
import { startHttpServer, type HttpServer } from "../helpers/http-server.ts";

// A12: a server answers with a redirect, to the inside or to somebody who would like the headers.

const LIMITS: EgressLimits = { totalMs: 5_000, idleMs: 5_000, maxBytes: 1_000_000, maxDepth: 20 };
const STATUSES = [301, 302, 303, 307, 308];
const SECRETS = { authorization: "Bearer canary", "mcp-session-id": "canary", "x-api-key": "canary" };
const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** `server` redirects `/from/…` with `status` to `location`; `other` is another origin on the same machine. */
async function createWorld(redirect: (world: { server: HttpServer; other: HttpServer }) => [number, string]) {
  const other = await startHttpServer((_, response) => response.end("the other one"));
  const server: HttpServer = await startHttpServer(({ path }, response) => {
    if (!path.startsWith("/from")) {
      response.end("the same one");
      return;
    }
    const [status, location] = redirect({ server, other });
    response.writeHead(status, { location }).end("moved");
  });
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  cleanups.push(server.stop, other.stop, egress.close);
  return { server, other, fetch: egress.fetch(LIMITS) };
}

async function refusalOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error instanceof EgressError && error.reason === "refused") return error.message;
  throw new Error("expected a refusal", { cause: error });
}

describe("a redirect to another origin is not followed, and the other origin is not even connected", () => {
  for (const method of ["GET", "POST"]) {
    test.each(STATUSES)(`${method} and %i`, async (status) => {
      const { server, other, fetch } = await createWorld((world) => [status, `${world.other.url}/steal`]);
      const init = { method, headers: SECRETS, ...(method === "POST" && { body: "canary" }) };
      const message = await refusalOf(fetch(`${server.url}/from`, init));
      expect(message).toBe(
        `127.0.0.1:${server.port} redirected to another origin (${other.url}), which is not followed.`,
      );
      expect(server.requests).toHaveLength(1);
      expect(other.sockets).toHaveLength(0);
    });
  }

  test.each([
    ["another name of the same machine", ({ server }: Servers) => `http://localhost:${server.port}/`],
    ["another scheme", ({ server }: Servers) => `https://127.0.0.1:${server.port}/`],
    ["a link without scheme", ({ other }: Servers) => `//127.0.0.1:${other.port}/`],
    ["back slashes", ({ other }: Servers) => `\\\\127.0.0.1:${other.port}/`],
    ["metadata", () => "http://169.254.169.254/latest/meta-data/"],
    ["a private address", () => "http://10.0.0.1/"],
    ["a script", () => "javascript:alert(1)"],
    ["a file", () => "file:///etc/passwd"],
    ["nonsense", () => "http://["],
  ])("nor is one to %s", async (_, location) => {
    const { server, other, fetch } = await createWorld((world) => [307, location(world)]);
    await refusalOf(fetch(`${server.url}/from`, { headers: SECRETS }));
    expect(server.requests).toHaveLength(1);
    expect(other.sockets).toHaveLength(0);
  });

  test("nor is one that comes after one within the origin", async () => {
    let hops = 0;
    const { server, other, fetch } = await createWorld((world) => [
      307,
      hops++ === 0 ? "/from/again" : world.other.url,
    ]);
    await refusalOf(fetch(`${server.url}/from`, { method: "POST", headers: SECRETS, body: "canary" }));
    expect(server.requests).toHaveLength(2);
    expect(other.sockets).toHaveLength(0);
  });

  test("nor does a user name in the location slip through as the same origin", async () => {
    const { server, fetch } = await createWorld(({ server: same }) => [
      302,
      `http://a:b@127.0.0.1:${same.port}/`,
    ]);
    expect(await refusalOf(fetch(`${server.url}/from`))).toMatch(/must not hold a user name/);
  });
});

type Servers = { server: HttpServer; other: HttpServer };

describe("a redirect within the origin", () => {
  test.each(STATUSES)("is followed for GET: %i", async (status) => {
    const { server, fetch } = await createWorld(() => [status, "../there?a=b"]);
    const response = await fetch(`${server.url}/from/x`, { headers: SECRETS });
    expect(await response.text()).toBe("the same one");
    expect(server.requests[1]).toMatchObject({ method: "GET", path: "/there?a=b", headers: SECRETS });
  });

  test.each([307, 308])("repeats a POST with its body: %i", async (status) => {
    const { server, fetch } = await createWorld(() => [status, "/to"]);
    await fetch(`${server.url}/from`, { method: "POST", headers: SECRETS, body: "once more" });
    expect(server.requests[1]).toMatchObject({
      method: "POST",
      path: "/to",
      body: "once more",
      headers: SECRETS,
    });
  });

  test.each([301, 302, 303])("never makes something else of a POST: %i", async (status) => {
    const { server, fetch } = await createWorld(() => [status, "/to"]);
    expect(await refusalOf(fetch(`${server.url}/from`, { method: "POST", body: "x" }))).toMatch(
      `answered a POST with a redirect of status ${status}`,
    );
    expect(server.requests).toHaveLength(1);
  });

  test("does not repeat a body that streamed away", async () => {
    const { server, fetch } = await createWorld(() => [307, "/to"]);
    const body = new Blob(["gone"]).stream();
    expect(await refusalOf(fetch(`${server.url}/from`, { method: "POST", body }))).toMatch(
      /cannot be sent again/,
    );
    expect(server.requests).toHaveLength(1);
  });

  test("is followed three times and no more", async () => {
    const { server, fetch } = await createWorld(() => [302, "/from"]);
    expect(await refusalOf(fetch(`${server.url}/from`))).toMatch(/redirected more than 3 times/);
    expect(server.requests).toHaveLength(4);
  });

  test("is the answer itself for a caller who asks for that", async () => {
    const { server, fetch } = await createWorld(({ other }) => [302, other.url]);
    const response = await fetch(`${server.url}/from`, { redirect: "manual" });
    expect([response.status, await response.text()]).toEqual([302, "moved"]);
    await refusalOf(fetch(`${server.url}/from`, { redirect: "error" }));
  });
});

test("a redirect status without a location is an answer like any other", async () => {
  const server = await startHttpServer((_, response) => response.writeHead(302).end("nowhere"));
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  cleanups.push(server.stop, egress.close);
  expect(await (await egress.fetch(LIMITS)(server.url)).text()).toBe("nowhere");
});

test("the endless body of a redirect is not read", async () => {
  const server = await startHttpServer(({ path }, response) => {
    if (path === "/to") {
      response.end("arrived");
      return;
    }
    response.writeHead(302, { location: "/to" }).write("x");
  });
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  cleanups.push(server.stop, egress.close);
  expect(await (await egress.fetch(LIMITS)(server.url)).text()).toBe("arrived");
  const [first] = server.sockets;
  if (first && !first.destroyed) await once(first, "close");
  expect(server.sockets).toHaveLength(2);
});
