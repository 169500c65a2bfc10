import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AUTH_TYPES } from "../../src/core/connection-auth-rules.ts";
import type { Route } from "../../src/http/route.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

type Operation = {
  operationId: string;
  "x-roles"?: string[];
  parameters: { name: string; in: string }[];
  requestBody?: { content: Record<string, { schema: Record<string, unknown> }> };
  responses: Record<string, unknown>;
};
type Document = {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  servers: { url: string }[];
};

type Schema = {
  type?: string;
  const?: string;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  anyOf?: Schema[];
  examples?: unknown[];
};

let app: TestApp;
let document: Document;
beforeAll(async () => {
  app = await createTestApp();
  document = (await app.send("GET", "/openapi.json", { key: null })).body as Document;
});
afterAll(() => app.stop());

const keyOf = ({ method, path }: Pick<Route, "method" | "path">) => `${method} ${path}`;
const described = () =>
  Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
  );

describe("/openapi.json", () => {
  test("is OpenAPI 3.1 on the public URL and needs no key", () => {
    expect(document.openapi).toBe("3.1.0");
    expect(document.servers).toEqual([{ url: `https://${HOST}` }]);
  });

  test("describes every route, and no other", () => {
    expect(described().toSorted()).toEqual(app.routes.map(keyOf).toSorted());
    expect(app.routes.length).toBeGreaterThan(45);
  });

  test("describes only what answers: no described path is unknown to the app", async () => {
    // A client document that is not there is not told from a path that is not there.
    for (const key of described().filter((known) => !known.includes("/oauth/client/"))) {
      const [method = "", template = ""] = key.split(" ");
      const path = template.replaceAll(/\{\w+\}/g, "none");
      const { status, text } = await app.send(method, path, { key: null });
      expect([key, status, text]).not.toEqual([key, 404, expect.stringContaining("nothing at this path")]);
      expect([key, status]).not.toEqual([key, 405]);
    }
  });

  test("gives every operation a name of its own", () => {
    const ids = Object.values(document.paths).flatMap((operations) =>
      Object.values(operations).map((operation) => operation.operationId),
    );
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("says the same roles as the routes", () => {
    for (const route of app.routes) {
      const operation = document.paths[route.path]?.[route.method.toLowerCase()];
      expect(operation?.["x-roles"]).toEqual(route.access === "public" ? undefined : route.roles);
    }
  });

  test("knows the shapes that requests are read with", () => {
    const put = document.paths["/api/projects/{project}/connections/{name}"]?.["put"];
    const schema = put?.requestBody?.content["application/json"]?.schema as {
      properties: { properties: { properties: Record<string, unknown> } };
    };
    expect(Object.keys(schema.properties.properties.properties)).toEqual(
      expect.arrayContaining(["target", "authType", "credentials", "requireApproval", "allowedTools"]),
    );
    expect(put?.parameters.map(({ name }) => name)).toEqual(["project", "name"]);
  });

  test("says what a connection must have: of PUT, not of PATCH", () => {
    const propertiesOf = (method: string) => {
      const operation = document.paths["/api/projects/{project}/connections/{name}"]?.[method];
      const schema = operation?.requestBody?.content["application/json"]?.schema as Schema;
      return schema.properties?.["properties"];
    };
    expect(propertiesOf("put")?.required).toEqual(["authType", "target"]);
    expect(propertiesOf("patch")?.required).toBeUndefined();
    expect(propertiesOf("put")?.properties?.["authType"]).toMatchObject({
      enum: AUTH_TYPES,
    });
    expect(JSON.stringify(propertiesOf("patch")?.properties?.["timeoutMs"])).toContain(
      '"minimum":100,"maximum":600000',
    );
  });

  describe("of POST …/responses", () => {
    const operation = () => document.paths["/v1/responses"]?.["post"];
    const bodyOf = (kind: string, field: string) => {
      const schema = operation()?.requestBody?.content["application/json"]?.schema as Schema;
      const forms = schema.properties?.[field];
      const items = forms?.items ?? forms?.anyOf?.find((form) => form.type === "array")?.items;
      return items?.anyOf?.find((form) => form.properties?.["type"]?.const === kind);
    };

    test("describes the tools with their fields", () => {
      const mcp = bodyOf("mcp", "tools");
      expect(Object.keys(mcp?.properties ?? {})).toEqual([
        "type",
        "server_label",
        "server_url",
        "server_description",
        "project_connection_id",
        "authorization",
        "headers",
        "require_approval",
        "allowed_tools",
      ]);
      expect(mcp?.required).toEqual(["type", "server_label"]);
      expect(bodyOf("function", "tools")?.required).toEqual(["type", "name"]);
    });

    test("describes explicit calls and answers to approvals", () => {
      const call = bodyOf("mcp_call", "input");
      expect(call?.required).toEqual(["type", "server_label", "name", "arguments"]);
      expect(JSON.stringify(call?.properties?.["status"])).toContain('"calling"');
      expect(bodyOf("mcp_approval_response", "input")?.required).toEqual([
        "type",
        "approval_request_id",
        "approve",
      ]);
      expect(bodyOf("message", "input")?.required).toEqual(["type", "role", "content"]);
    });

    test("gives an example of an explicit call that is read as one", async () => {
      const call = bodyOf("mcp_call", "input")?.examples?.[0];
      const { server_label } = call as { server_label: string };
      const server = { type: "mcp", server_label, server_url: "http://127.0.0.1:9/mcp" };
      const answer = await app.send("POST", "/v1/responses", { body: { tools: [server], input: [call] } });
      expect(answer.body).toMatchObject({ status: "completed", output: [{ type: "mcp_call" }] });
    });

    test("describes every field of an answer, and no other", async () => {
      const answers = operation()?.responses["200"] as { content: Record<string, { schema: Schema }> };
      const schema = answers.content["application/json"]?.schema;
      const tools = [{ type: "mcp", server_label: "dead", server_url: "http://127.0.0.1:9/mcp" }];
      const { body } = await app.send("POST", "/v1/responses", { body: { tools } });
      expect(Object.keys(schema?.properties ?? {}).toSorted()).toEqual(
        Object.keys(body as object).toSorted(),
      );
      expect(schema?.required?.toSorted()).toEqual(Object.keys(body as object).toSorted());
      const stored = document.paths["/v1/responses/{id}"]?.["get"]?.responses["200"];
      expect((stored as typeof answers).content["application/json"]?.schema).toEqual(schema);
    });
  });

  test("has the routes of the responses API under all its bases", () => {
    expect(described()).toEqual(
      expect.arrayContaining(["POST /v1/responses", "POST /api/projects/{project}/openai/v1/responses"]),
    );
  });
});

describe("docs/http-api.md", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/http-api.md"), "utf8");
  const rows = [...page.matchAll(/^\| `(\w+) (\/[^`]*)` \| ([^|]*) \|/gm)].map(([, method, path, roles]) => ({
    key: `${method} ${path}`,
    roles: roles?.trim(),
  }));

  // The page lists what stands under several bases once.
  const isElsewhere = ({ path }: Route) => /^\/subscriptions\/|^\/v1\/|\/protocols\/openai\//.test(path);

  test("says of every route who may call it", () => {
    const expected = app.routes
      .filter((route) => !isElsewhere(route))
      .map((route) => ({ key: keyOf(route), roles: rolesText(route) }));
    const byKey = (a: { key: string }, b: { key: string }) => (a.key < b.key ? -1 : 1);
    expect(rows.toSorted(byKey)).toEqual(expected.toSorted(byKey));
  });

  test("may do so once for routes under several bases: they have the same roles everywhere", () => {
    const tail = ({ method, path }: Route) =>
      `${method} ${/\/(?:responses|conversations|connections)(?:\/.*)?$/.exec(path)?.[0]}`;
    const elsewhere = app.routes.filter(isElsewhere);
    expect(elsewhere).toHaveLength(35);
    for (const route of elsewhere) {
      const original = app.routes.find((other) => !isElsewhere(other) && tail(other) === tail(route));
      expect([keyOf(route), rolesText(route)]).toEqual([keyOf(route), original && rolesText(original)]);
    }
  });
});

function rolesText(route: Route): string {
  if (route.access === "public") return "anybody";
  const roles = route.roles.join(", ");
  return route.access === "operator" ? `operator: ${roles}` : roles;
}
