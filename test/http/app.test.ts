import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { RateLimits } from "../../src/http/limits.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp();
});
afterAll(() => app.stop());

const errorOf = (body: unknown) => (body as { error: Record<string, unknown> }).error;

describe("a path", () => {
  test("that is unknown is 404, in the error body of its surface", async () => {
    const foundry = await app.send("GET", "/api/projects/default/nonsense");
    expect(foundry.status).toBe(404);
    expect(errorOf(foundry.body)).toMatchObject({ code: "NotFound", message: expect.any(String) });
    const openai = await app.send("GET", "/api/projects/default/openai/v1/nonsense");
    expect(openai.status).toBe(404);
    expect(errorOf(openai.body)).toEqual({
      message: expect.any(String),
      type: "invalid_request_error",
      param: null,
      code: null,
    });
  });

  test("that takes another method is 405 and says which", async () => {
    const answer = await app.send("POST", "/api/projects/default/connections/github");
    expect(answer.status).toBe(405);
    expect(answer.headers.get("allow")).toBe("DELETE, GET, PATCH, PUT");
  });

  test("with a doubled slash is the same path", async () => {
    expect((await app.send("GET", "/api/projects/default//connections")).status).toBe(200);
  });

  test("with a verb nobody knows is no other route", async () => {
    expect((await app.send("POST", "/api/projects/default/connections/github:explode")).status).toBe(405);
  });

  test("with an id that nobody could have is 404, and no fault of ours", async () => {
    const base = "/api/projects/default";
    const paths = [
      "openai/v1/responses/ID",
      "openai/v1/responses/ID/input_items",
      "approvals/ID",
      "agents/ID",
      "users/ID",
    ];
    for (const id of ["x".repeat(12_000), "%00", "resp_%1a0", "%F0%9F%A6%8A", "__proto__", "constructor"]) {
      for (const path of paths) {
        const { status } = await app.send("GET", `${base}/${path.replace("ID", id)}`);
        expect([path, id.slice(0, 12), status]).toEqual([
          path,
          id.slice(0, 12),
          expect.toBeOneOf([400, 404]),
        ]);
      }
      expect((await app.send("GET", `${base}/openai/v1/responses/${id}`)).status).toBe(404);
      expect((await app.send("DELETE", `${base}/openai/v1/responses/${id}`)).status).toBe(404);
      expect((await app.send("POST", `${base}/openai/v1/responses/${id}/cancel`)).status).toBe(404);
    }
    expect(app.logs.filter(({ event }) => event === "request_failed")).toEqual([]);
  });

  test("may carry any api-version", async () => {
    for (const version of ["v1", "2025-11-15-preview", ""]) {
      expect((await app.send("GET", `/api/projects/default/connections?api-version=${version}`)).status).toBe(
        200,
      );
    }
  });
});

describe("a request id", () => {
  test("is made, answered and logged", async () => {
    const { headers } = await app.send("GET", "/healthz");
    expect(headers.get("x-request-id")).toMatch(/^req_[0-9a-f]{50}$/);
  });

  test("of the sender is kept if it is short and plain", async () => {
    const send = async (id: string) =>
      (await app.send("GET", "/healthz", { headers: { "x-request-id": id } })).headers.get("x-request-id");
    expect(await send("trace-1.2_3")).toBe("trace-1.2_3");
    expect(await send("a b")).toMatch(/^req_/);
    expect(await send("x".repeat(65))).toMatch(/^req_/);
    expect(await send('"};drop')).toMatch(/^req_/);
  });
});

test("no answer is kept by a cache, refusals included", async () => {
  for (const path of ["/api/projects/default/keys", "/api/projects/none/keys", "/nonsense", "/healthz"]) {
    const { headers } = await app.send("GET", path);
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("x-content-type-options")).toBe("nosniff");
  }
});

describe("the log", () => {
  test("has one line per request: the route's template, never the path or the query", async () => {
    app.logs.length = 0;
    await app.send("GET", "/api/projects/default/connections/s3cret-name?q=s3cret-query");
    expect(app.logs.filter((line) => line.event === "http_request")).toEqual([
      {
        level: "info",
        event: "http_request",
        fields: {
          method: "GET",
          route: "/api/projects/{project}/connections/{name}",
          status: 404,
          ms: expect.any(Number),
          principal: expect.any(String),
          project: "default",
          requestId: expect.stringMatching(/^req_/),
        },
      },
    ]);
    expect(JSON.stringify(app.logs)).not.toContain("s3cret");
  });

  test("of a refused caller names nobody", async () => {
    app.logs.length = 0;
    await app.send("GET", "/api/projects/default/connections", { key: "csk_s3cret" });
    expect(app.logs[0]?.fields).toMatchObject({ status: 401, principal: null, project: null });
    expect(JSON.stringify(app.logs)).not.toContain("s3cret");
  });
});

describe("a body", () => {
  const put = (body: string, headers = {}) =>
    app.send("PUT", "/api/projects/default/settings", { body, headers });

  test("that is not JSON is 400 without a field", async () => {
    const answer = await put("{");
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)).toEqual({
      code: "invalid_payload",
      message: "The body is not valid JSON.",
      details: expect.any(Array),
    });
    const openai = await app.send("POST", "/v1/responses", { body: "{" });
    expect(openai.status).toBe(400);
    expect(errorOf(openai.body)).toMatchObject({ param: null, message: "The body is not valid JSON." });
  });

  test("over 4 MiB is 413, whether it says so or not", async () => {
    const big = JSON.stringify({ pad: "x".repeat(4 * 1024 * 1024) });
    expect((await put(big)).status).toBe(413);
    const url = `https://${HOST}/api/projects/default/settings`;
    const headers = { authorization: `Bearer ${app.operatorKey}`, "content-length": String(big.length) };
    expect((await app.raw(new Request(url, { method: "PUT", body: "{}", headers }))).status).toBe(413);
  });

  test("that nests deeper than 100 is 400", async () => {
    const deep = (levels: number) => `{"users":${"[".repeat(levels)}${"]".repeat(levels)}}`;
    expect(errorOf((await put(deep(100))).body)["message"]).toContain("deeper than 100");
    expect(errorOf((await put(deep(99))).body)["message"]).toContain("users: must be an object");
  });

  test("that is not UTF-8 is 400", async () => {
    const url = `https://${HOST}/api/projects/default/settings`;
    const headers = { authorization: `Bearer ${app.operatorKey}` };
    const body = new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]);
    expect((await app.raw(new Request(url, { method: "PUT", body, headers }))).status).toBe(400);
  });

  test("of the wrong shape names every field", async () => {
    const answer = await app.send("POST", "/api/projects/default/keys", {
      body: { name: 7, roles: ["admin", "king"], rights: "all", expiresAt: "soon" },
    });
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)["param"]).toBe("name");
    const { details } = errorOf(answer.body) as { details: { target: string }[] };
    expect(details.map((fault) => fault.target)).toEqual(["name", "roles[1]", "rights", "expiresAt"]);
    for (const name of [
      "name: must be a string",
      "roles[1]: must be",
      "rights: must be an array",
      "expiresAt: must be",
    ]) {
      expect(errorOf(answer.body)["message"]).toContain(name);
    }
  });

  test("that is missing is a missing body", async () => {
    const answer = await app.send("PUT", "/api/projects/default/connections/github");
    expect(answer.status).toBe(400);
  });
});

describe("a fault of ours", () => {
  test("is 500 with the request id and nothing else; the log has the stack", async () => {
    const broken = await createTestApp();
    await broken.world.store.close();
    const answer = await broken.send("GET", "/api/projects/default/connections", {
      headers: { "x-request-id": "trace-me" },
    });
    expect(answer.status).toBe(500);
    expect(errorOf(answer.body)["message"]).toContain("trace-me");
    expect(answer.text).not.toMatch(/database|sqlite|at /i);
    expect(broken.logs.find((line) => line.event === "request_failed")?.fields["error"]).toMatch(/\n\s+at /);
    await expect(broken.stop()).resolves.not.toThrow();
  });
});

describe("health", () => {
  test("asks for no key, no host, and readiness asks the database", async () => {
    for (const path of ["/healthz", "/readyz"]) {
      const request = new Request(`http://10.0.0.7:8787${path}`);
      expect((await app.raw(request)).status).toBe(200);
    }
  });
});

describe("rate limits", () => {
  const apps: TestApp[] = [];
  const limited = async (rateLimits: RateLimits) => {
    const made = await createTestApp({ rateLimits });
    apps.push(made);
    return made;
  };
  afterEach(async () => {
    await Promise.all(apps.splice(0).map((made) => made.stop()));
  });
  const path = "/api/projects/default/connections";

  test("hold a caller to its number, and no other caller", async () => {
    const made = await limited({ perCaller: 3, perAddress: 0 });
    const other = await made.makeKey({ roles: ["runtime"] });
    for (let n = 0; n < 3; n++) expect((await made.send("GET", path)).status).toBe(200);
    const refused = await made.send("GET", path);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(refused.headers.get("x-should-retry")).toBeNull();
    expect((await made.send("GET", path, { key: other.key })).status).toBe(200);
  });

  test("count requests for foreign projects, so that names cannot be tried out", async () => {
    const made = await limited({ perCaller: 3, perAddress: 0 });
    const { key } = await made.makeKey({ roles: ["runtime"] });
    for (let n = 0; n < 3; n++) {
      expect((await made.send("GET", `/api/projects/p${n}/connections`, { key })).status).toBe(404);
    }
    expect((await made.send("GET", "/api/projects/p3/connections", { key })).status).toBe(429);
  });

  test("hold strangers of one address, and let its known callers pass", async () => {
    const made = await limited({ perCaller: 0, perAddress: 2 });
    const stranger = (address: string) =>
      made.raw(new Request(`https://${HOST}${path}`, { headers: { "api-key": "nope" } }), address);
    expect((await stranger("192.0.2.9")).status).toBe(401);
    expect((await stranger("192.0.2.9")).status).toBe(401);
    expect((await stranger("192.0.2.9")).status).toBe(429);
    expect((await stranger("192.0.2.10")).status).toBe(401);
    const known = new Request(`https://${HOST}${path}`, { headers: { "api-key": made.operatorKey } });
    expect((await made.raw(known, "192.0.2.9")).status).toBe(200);
  });

  test("take an IPv6 network for one address", async () => {
    const made = await limited({ perCaller: 0, perAddress: 1 });
    const stranger = (address: string) => made.raw(new Request(`https://${HOST}${path}`), address);
    expect((await stranger("2001:db8:1:2::5")).status).toBe(401);
    expect((await stranger("2001:db8:1:2:aaaa:bbbb:cccc:dddd")).status).toBe(429);
    expect((await stranger("2001:db8:1:3::5")).status).toBe(401);
  });
});
