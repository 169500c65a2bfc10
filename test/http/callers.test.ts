import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

const REFUSED =
  "The credentials are missing or not valid. " +
  'Send a valid key as "Authorization: Bearer csk_…" or "api-key: csk_…", or a token that the project takes as Bearer.';

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp();
  await app.makeProject("other");
});
afterAll(() => app.stop());

type Body = Record<string, unknown>;
const errorOf = (body: unknown) => (body as { error: Body }).error;
const path = "/api/projects/default/connections";

async function statusWith(headers: Record<string, string>): Promise<number> {
  return (await app.raw(new Request(`https://${HOST}${path}`, { headers }))).status;
}

describe("credentials", () => {
  test("come as a bearer token in any case, or as api-key", async () => {
    const key = app.operatorKey;
    expect(await statusWith({ authorization: `Bearer ${key}` })).toBe(200);
    expect(await statusWith({ authorization: `bearer ${key}` })).toBe(200);
    expect(await statusWith({ "api-key": key })).toBe(200);
    expect(await statusWith({ authorization: "Basic eDp5", "api-key": key })).toBe(200);
  });

  test.each([
    {},
    { authorization: "" },
    { authorization: "Bearer" },
    { authorization: "Bearer a b" },
    { authorization: "Basic eDp5" },
    { authorization: "Bearer csk_nonsense" },
    { "api-key": "" },
    { authorization: `Bearer ${"x".repeat(20_000)}` },
    { authorization: "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9." },
  ] as Record<string, string>[])("that are not %j get one dull 401", async (headers) => {
    const response = await app.raw(new Request(`https://${HOST}${path}`, { headers }));
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe("Bearer");
    expect(errorOf(await response.json())).toEqual({
      code: "Unauthorized",
      message: REFUSED,
      type: "invalid_api_key",
    });
  });

  test("are asked for before anything is said about project, path or body", async () => {
    for (const [method, where] of [
      ["GET", "/api/projects/nonsense/connections"],
      ["PUT", "/api/projects/default/connections/x"],
      ["POST", "/api/projects"],
      ["POST", "/v1/responses"],
    ] as const) {
      const answer = await app.send(method, where, { key: "nope", ...(method !== "GET" && { body: "{" }) });
      expect([where, answer.status]).toEqual([where, 401]);
    }
  });

  test("in the form of OpenAI's errors under /v1", async () => {
    const answer = await app.send("POST", "/v1/responses", { key: null, body: {} });
    expect(errorOf(answer.body)).toEqual({
      message: REFUSED,
      type: "invalid_request_error",
      param: null,
      code: "invalid_api_key",
    });
  });
});

describe("roles", () => {
  test("decide over every route: a caller without one of its roles is refused, by name of the role", async () => {
    const keys = {
      admin: await app.makeKey({ roles: ["admin"] }),
      runtime: await app.makeKey({ roles: ["runtime"] }),
      approver: await app.makeKey({ roles: ["approver"] }),
      none: await app.makeKey({ rights: ["act_for_users", "read_credentials"] }),
    };
    let refused = 0;
    for (const route of app.routes) {
      if (route.access !== "project") continue;
      const where = route.path.replace("{project}", "default").replaceAll(/\{\w+\}/g, "none");
      for (const [role, { key }] of Object.entries(keys)) {
        const { status, body } = await app.send(route.method, where, { key });
        const may = route.roles.some((name) => name === role);
        expect([route.method, route.path, role, status === 403]).toEqual([
          route.method,
          route.path,
          role,
          !may,
        ]);
        if (may) continue;
        refused++;
        expect(errorOf(body)["message"]).toContain(`role ${route.roles.join(" or ")}`);
      }
    }
    expect(refused).toBeGreaterThan(60);
  });

  test("of a project make no operator", async () => {
    const { key } = await app.makeKey({ roles: ["admin", "runtime", "approver"] });
    for (const route of app.routes) {
      if (route.access !== "operator") continue;
      const answer = await app.send(route.method, route.path.replace("{project}", "default"), {
        key,
        body: {},
      });
      expect([route.path, answer.status]).toEqual([route.path, 403]);
    }
  });
});

describe("/v1", () => {
  const projectOf = async (key: string, headers: Record<string, string> = {}) => {
    app.logs.length = 0;
    await app.send("GET", "/v1/responses/resp_none", { key, headers });
    return app.logs.find((line) => line.event === "http_request")?.fields["project"];
  };

  test("means the key's project, whatever the header says", async () => {
    const { key } = await app.makeKey({ project: "other", roles: ["runtime"] });
    expect(await projectOf(key)).toBe("other");
    expect(await projectOf(key, { "openai-project": "default" })).toBe("other");
  });

  test("means for an operator the header's project, else the default", async () => {
    expect(await projectOf(app.operatorKey)).toBe("default");
    expect(await projectOf(app.operatorKey, { "openai-project": "other" })).toBe("other");
    expect(await projectOf(app.operatorKey, { "openai-project": "none" })).toBeNull();
  });
});

test("an operator may touch every project, and an unknown one is 404", async () => {
  expect((await app.send("GET", "/api/projects/other/connections")).status).toBe(200);
  expect((await app.send("GET", "/api/projects/none/connections")).status).toBe(404);
});

test("a failed POST tells clients not to repeat it; a GET may be repeated", async () => {
  const post = await app.send("POST", "/v1/responses", { body: "{" });
  expect(post.headers.get("x-should-retry")).toBe("false");
  const get = await app.send("GET", "/v1/responses/resp_none");
  expect(get.headers.get("x-should-retry")).toBeNull();
});
