import { afterAll, beforeAll, expect, test } from "vitest";
import { BrokerError } from "../../src/core/errors.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp({ rateLimits: { perCaller: 0, perAddress: 2 } });
});
afterAll(() => app.stop());

const get = (path: string) => app.send("GET", path, { key: null });

test("the metadata is what federations ask for, on the public URL, and needs no key", async () => {
  const answer = await get("/.well-known/openid-configuration");
  expect(answer.status).toBe(200);
  expect(answer.headers.get("cache-control")).toBe("public, max-age=300");
  expect(answer.body).toEqual({
    issuer: `https://${HOST}`,
    jwks_uri: `https://${HOST}/.well-known/jwks.json`,
    response_types_supported: ["id_token"],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["RS256"],
    scopes_supported: ["openid"],
    claims_supported: expect.arrayContaining(["iss", "sub", "aud", "exp", "oid"]),
  });
  expect(await app.world.store.signingKeys.list("workload")).toEqual([]);
});

test("the keys are there from the first time somebody asks, public parts alone", async () => {
  const answers = await Promise.all(Array.from({ length: 8 }, () => get("/.well-known/jwks.json")));
  expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
  const [answer] = answers;
  expect(answer?.headers.get("cache-control")).toBe("public, max-age=300");
  expect(answer?.body).toEqual({
    keys: [
      {
        kty: "RSA",
        e: "AQAB",
        n: expect.stringMatching(/^[\w-]{342}$/),
        kid: expect.stringMatching(/^[\w-]{43}$/),
        alg: "RS256",
        use: "sig",
      },
    ],
  });
});

test("nobody takes the broker for an authorization server", async () => {
  expect((await get("/.well-known/oauth-authorization-server")).status).toBe(404);
});

test("what is asked of a Host that is not ours is refused, like everything", async () => {
  const request = new Request("https://evil.example/.well-known/jwks.json");
  expect((await app.raw(request)).status).toBe(403);
});

test("a token of ours opens no door of ours", async () => {
  const identity = { kind: "project", project: "default" } as const;
  const asked = { identity, audience: "https://mcp.example", fresh: false };
  const minted = await app.world.workload.token(asked, new AbortController().signal);
  if (!minted.ok) throw new Error(minted.message);
  const doors = ["/api/projects/default/connections", "/api/projects", "/v1/responses/resp_1"];
  for (const [at, path] of doors.entries()) {
    for (const headers of [{ authorization: `Bearer ${minted.token}` }, { "api-key": minted.token }]) {
      // Of an address of its own each: strangers are counted.
      const { status } = await app.raw(new Request(`https://${HOST}${path}`, { headers }), `192.0.2.${at}`);
      expect([path, status]).toEqual([path, 401]);
    }
  }
  expect(JSON.stringify(app.logs)).not.toContain(minted.token.slice(-40));
});

test("keys that cannot be read are 503, and are kept by nobody", async () => {
  const { workload } = app.world;
  const jwks = async () => {
    throw new BrokerError("unavailable", { what: "the workload issuer's signing key 1 (it is damaged)" });
  };
  app.world.workload = { ...workload, jwks };
  const answer = await get("/.well-known/jwks.json");
  app.world.workload = workload;
  expect(answer.status).toBe(503);
  expect(answer.headers.get("cache-control")).toBe("no-store");
  expect(answer.text).toContain("signing key 1");
});
