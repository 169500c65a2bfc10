import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

// A18: a name of the attacker's that resolves to us, or a page of the attacker's that calls us, gets one dull refusal.
let app: TestApp;
beforeAll(async () => {
  app = await createTestApp({ extraHosts: ["alias.test:8443"] });
});
afterAll(() => app.stop());

async function statusOf(url: string, headers: Record<string, string> = {}): Promise<number> {
  const request = new Request(url, { headers: { authorization: `Bearer ${app.operatorKey}`, ...headers } });
  return (await app.raw(request)).status;
}

const path = "/api/projects/default/connections";

describe("A18: the Host header", () => {
  test.each([
    HOST,
    `${HOST}:443`,
    "127.0.0.1:8787",
    "localhost:8787",
    "[::1]:8787",
    "alias.test:8443",
    "BROKER.test",
  ])("%s is ours", async (host) => {
    expect(await statusOf(`https://${host}${path}`, { host })).toBe(200);
  });

  test.each([
    "evil.test",
    "broker.test.evil.test",
    "evilbroker.test",
    "broker.test:8787",
    "broker.test.",
    "127.0.0.1",
    "127.0.0.1:80",
    "localhost",
    "alias.test",
    "169.254.169.254",
  ])("%s is not, whatever the key", async (host) => {
    expect(await statusOf(`https://${host}${path}`, { host })).toBe(403);
    expect(await statusOf(`https://${HOST}${path}`, { host })).toBe(403);
    expect(await statusOf(`https://${host}${path}`, { host: HOST })).toBe(403);
  });

  test("is never made good by forwarding headers", async () => {
    const forwarded = { "x-forwarded-host": HOST, forwarded: `host=${HOST}`, "x-original-host": HOST };
    expect(await statusOf(`https://evil.test${path}`, { host: "evil.test", ...forwarded })).toBe(403);
  });

  test("guards unknown paths, the description and pages alike; health alone answers", async () => {
    for (const other of ["/openapi.json", "/nonsense", "/", "/v1/responses"]) {
      expect(await statusOf(`http://evil.test${other}`, { host: "evil.test" })).toBe(403);
    }
    for (const health of ["/healthz", "/readyz"]) {
      expect(await statusOf(`http://evil.test${health}`, { host: "evil.test" })).toBe(200);
    }
  });

  test("refused says nothing about us", async () => {
    const response = await app.raw(
      new Request(`http://evil.test${path}`, { headers: { host: "evil.test" } }),
    );
    expect(await response.json()).toEqual({
      error: { code: "Forbidden", message: "This host name or origin is not served here." },
    });
  });
});

describe("A18: a page of another origin", () => {
  test.each([
    "https://evil.test",
    "null",
    "https://broker.test.evil.test",
    "file://",
    "https://broker.test@evil.test",
  ])("%s may not call", async (origin) => {
    expect(await statusOf(`https://${HOST}${path}`, { origin })).toBe(403);
  });

  test("may not ask whether it might: there is no CORS", async () => {
    const preflight = new Request(`https://${HOST}${path}`, {
      method: "OPTIONS",
      headers: { origin: "https://evil.test", "access-control-request-method": "GET" },
    });
    const response = await app.raw(preflight);
    expect(response.status).toBe(403);
    expect([...response.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
  });

  test("is none of ours; our own may call", async () => {
    expect(await statusOf(`https://${HOST}${path}`, { origin: `https://${HOST}` })).toBe(200);
  });
});
