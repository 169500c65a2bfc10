import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectorAad } from "../../src/core/storage.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

type Body = Record<string, unknown>;

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp({ egressAllow: "loopback,*.example.com" });
});
afterAll(() => app.stop());

const SECRET = "s3cret-canary";
const path = "/api/connectors";
// Nobody listens at port 9, so that there are no metadata to be found.
const AS = "http://127.0.0.1:9";
const draft = (over: Body = {}) => ({
  clientId: "Iv1.app",
  clientSecret: SECRET,
  authorizationUrl: `${AS}/authorize`,
  tokenUrl: `${AS}/token`,
  targets: ["mcp.example.com", "*.tools.example.com", "127.0.0.1:3001"],
  ...over,
});
const put = (name: string, body: Body) => app.send("PUT", `${path}/${name}`, { body });
const patch = (name: string, body: Body) => app.send("PATCH", `${path}/${name}`, { body });
const connect = (name: string, properties: Body, project = "default") =>
  app.send("PUT", `/api/projects/${project}/connections/${name}`, {
    body: { properties: { authType: "OAuth2", credentials: {}, ...properties } },
  });
const faultsOf = (body: unknown) => {
  const { error } = body as { error: { details?: { target: string }[] } };
  return (error.details ?? []).map(({ target }) => target);
};
const generationOf = async (name: string) =>
  (await app.world.store.connectors.get(name))?.connector.generation;

describe("a connector", () => {
  test("is made, read and listed without its secret, with a redirect URL of its own", async () => {
    const made = await put("github", draft({ provider: "github", scopes: ["repo"], name: "github" }));
    expect(made.status).toBe(200);
    expect(made.body).toMatchObject({
      name: "github",
      clientId: "Iv1.app",
      clientAuth: "basic",
      tokenUrl: `${AS}/token`,
      provider: "github",
      scopes: ["repo"],
      targets: ["mcp.example.com", "*.tools.example.com", "127.0.0.1:3001"],
      redirectUrl: expect.stringMatching(new RegExp(`^https://${HOST}/oauth/callback/[0-9a-f]{32}$`)),
    });
    expect((await app.send("GET", `${path}/github`)).body).toEqual(made.body);
    const listed = await app.send("GET", path);
    expect((listed.body as { value: Body[] }).value).toContainEqual(made.body);
    expect(made.text + listed.text).not.toContain(SECRET);
    const record = await app.world.store.connectors.get("github");
    const box = await app.world.sealer.open(record?.sealed ?? new Uint8Array(), connectorAad("github", 1));
    expect(JSON.parse(box)).toEqual({ clientSecret: SECRET, privateKey: null });
  });

  test("is an operator's alone", async () => {
    const { key } = await app.makeKey({ roles: ["admin", "runtime", "approver"] });
    for (const [method, at] of [
      ["GET", path],
      ["GET", `${path}/github`],
      ["PUT", `${path}/github`],
      ["PATCH", `${path}/github`],
      ["DELETE", `${path}/github`],
      ["GET", "/api/audit"],
    ] as const) {
      expect([method, at, (await app.send(method, at, { key, body: draft() })).status]).toEqual([
        method,
        at,
        403,
      ]);
    }
  });

  test("hears of every fault at once", async () => {
    const answer = await put("-x", {
      clientSecret: SECRET,
      tokenUrl: "data:x",
      targets: ["https://mcp.example.com", "*", "ok.example.com"],
      refreshScope: "omit",
    });
    expect(answer.status).toBe(400);
    expect(new Set(faultsOf(answer.body))).toEqual(
      new Set([
        "name",
        "clientId",
        "authorizationUrl",
        "tokenUrl",
        "targets[0]",
        "targets[1]",
        "overrideReason",
      ]),
    );
    expect(answer.text).not.toContain(SECRET);
  });

  test.each([
    ["targets", draft({ targets: undefined })],
    ["targets", draft({ targets: [] })],
    ["client_id", draft({ client_id: "a" })],
    ["connectorName", draft({ connectorName: "github" })],
    ["name", draft({ name: "other" })],
    ["clientId", { targets: ["a.example.com"] }],
  ])("is refused for its %s", async (param, body) => {
    const answer = await put("refused", body);
    expect([answer.status, faultsOf(answer.body)]).toEqual([400, expect.arrayContaining([param])]);
  });

  test("keeps its secret through a change, but not for another server; and moves when it is another app", async () => {
    await put("moving", draft());
    expect((await patch("moving", { scopes: ["a"], targets: ["mcp.example.com"] })).status).toBe(200);
    expect(await generationOf("moving")).toBe(1);
    const record = await app.world.store.connectors.get("moving");
    const box = await app.world.sealer.open(record?.sealed ?? new Uint8Array(), connectorAad("moving", 2));
    expect(box).toContain(SECRET);
    const stolen = await patch("moving", { tokenUrl: "https://evil.example.com/token" });
    expect([stolen.status, faultsOf(stolen.body)]).toEqual([400, ["clientSecret"]]);
    expect((await patch("moving", { clientId: "other", clientSecret: "x" })).status).toBe(200);
    expect(await generationOf("moving")).toBe(2);
    expect((await patch("unknown", { clientId: "a" })).status).toBe(404);
  });

  test("is audited beyond projects, without its secret", async () => {
    await put("told", draft({ pkce: "assume-S256", overrideReason: "It is Entra." }));
    await app.send("DELETE", `${path}/told`);
    const audit = await app.send("GET", "/api/audit");
    const ofIt = (audit.body as { value: { event: string; detail: Body }[] }).value.filter(
      ({ detail }) => detail["connector"] === "told",
    );
    expect(ofIt).toMatchObject([
      { event: "connector_deleted" },
      {
        event: "connector_created",
        detail: { overrides: "pkce=assume-S256", overrideReason: "It is Entra." },
      },
    ]);
    expect(audit.text).not.toContain(SECRET);
  });
});

describe("a connection of a connector", () => {
  beforeAll(async () => {
    await put("shared", draft());
  });

  test("has the connector's redirect URL and nothing of its app", async () => {
    const connector = (await app.send("GET", `${path}/shared`)).body as Body;
    const made = await connect("one", { target: "https://mcp.example.com/mcp", connectorName: "shared" });
    expect(made.status).toBe(200);
    expect(made.body).toMatchObject({
      redirectUrl: connector["redirectUrl"],
      properties: { connectorName: "shared", clientId: null, tokenUrl: null },
    });
    const listed = await app.send("GET", "/api/projects/default/connections");
    expect((listed.body as { value: Body[] }).value).toContainEqual(made.body);
  });

  test.each([
    ["https://mcp.example.com/mcp", 200],
    ["https://a.tools.example.com/mcp", 200],
    ["http://127.0.0.1:3001/mcp", 200],
    ["https://tools.example.com/mcp", 400],
    ["https://mcp.example.com.evil.example.com/mcp", 400],
    ["https://evilmcp.example.com/mcp", 400],
    ["https://mcp.example.com:8443/mcp", 400],
    ["http://127.0.0.1:3002/mcp", 400],
  ])("may point to %s: %i", async (target, status) => {
    const answer = await connect("pointing", { target, connectorName: "shared" });
    const faults = status === 400 ? ["properties.target"] : null;
    expect([answer.status, status === 400 ? faultsOf(answer.body) : null]).toEqual([status, faults]);
  });

  test("needs the connector to be there, and is judged again by every change", async () => {
    const target = "https://mcp.example.com/mcp";
    const none = await connect("none", { target, connectorName: "none" });
    expect(faultsOf(none.body)).toEqual(["properties.connectorName"]);
    await put("narrowed", draft());
    await connect("judged", { target, connectorName: "narrowed" });
    await patch("narrowed", { targets: ["other.example.com"] });
    const changed = await app.send("PATCH", "/api/projects/default/connections/judged", {
      body: { properties: { timeoutMs: 500 } },
    });
    expect(faultsOf(changed.body)).toEqual(["properties.target"]);
  });

  test("keeps it from being deleted, by number and not by name, unless that is forced", async () => {
    await put("used", draft());
    await app.makeProject("secretive-project");
    const target = "https://mcp.example.com/mcp";
    await connect("user-one", { target, connectorName: "used" });
    await connect("user-two", { target, connectorName: "used" }, "secretive-project");
    const refused = await app.send("DELETE", `${path}/used`);
    expect(refused.status).toBe(400);
    expect(refused.text).toContain("2 connections");
    expect(refused.text).not.toContain("secretive-project");
    expect((await app.send("DELETE", `${path}/used?force=true`)).status).toBe(204);
    expect((await app.send("DELETE", `${path}/used`)).status).toBe(404);
    const gone = await app.send("POST", "/api/projects/default/connections/user-one:validate");
    expect(gone.body).toMatchObject({ ok: false, cause: "authorization" });
    expect(gone.text).toContain("used");
  });
});
