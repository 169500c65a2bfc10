import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Route } from "../../src/http/route.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";

// A6: another project's connections, agents, keys, users, approvals: 404 for every verb, and nothing to enumerate.
let app: TestApp;
let insider: string;
let outsider: string;
beforeAll(async () => {
  app = await createTestApp();
  await app.makeProject("theirs");
  await app.makeProject("mine");
  insider = (await app.makeKey({ project: "theirs", roles: ["admin", "runtime", "approver"] })).key;
  outsider = (
    await app.makeKey({
      project: "mine",
      roles: ["admin", "runtime", "approver"],
      rights: ["act_for_users", "read_credentials"],
    })
  ).key;
  const properties = {
    authType: "CustomKeys",
    target: "https://mcp.example.com/mcp",
    credentials: { keys: { "X-Key": "s3cret" } },
  };
  await app.send("PUT", "/api/projects/theirs/connections/github", { key: insider, body: { properties } });
  await app.send("POST", "/api/projects/theirs/agents", {
    key: insider,
    body: { name: "github", definition },
  });
});
afterAll(() => app.stop());

const definition = { kind: "prompt", model: "m" };
const ofAProject = (route: Route) => route.access === "project" && route.path.includes("{project}");

function pathIn(project: string, route: Route): string {
  return route.path
    .replace("{project}", project)
    .replace("{agent}", "github")
    .replace("{version}", "1")
    .replaceAll(/\{\w+\}/g, "github");
}

test("A6: every verb of every route answers a foreign project as it answers one that is not there", async () => {
  const routes = app.routes.filter(ofAProject);
  expect(routes.length).toBeGreaterThan(40);
  for (const route of routes) {
    const ask = (project: string) =>
      app.send(route.method, pathIn(project, route), { key: outsider, body: {} });
    const foreign = await ask("theirs");
    const unknown = await ask("no-such");
    expect([route.method, route.path, foreign.status]).toEqual([route.method, route.path, 404]);
    expect(foreign.text.replaceAll("theirs", "no-such")).toBe(unknown.text);
    expect(unknown.status).toBe(404);
    const shape = (headers: Headers) => [...headers.keys()].toSorted();
    expect(shape(foreign.headers)).toEqual(shape(unknown.headers));
  }
});

describe("A6: after all that", () => {
  test("the other project is as it was", async () => {
    const read = await app.send("GET", "/api/projects/theirs/connections/github", { key: insider });
    expect(read.status).toBe(200);
    expect(
      (await app.send("GET", "/api/projects/theirs/agents/github", { key: insider })).body,
    ).toMatchObject({
      state: "enabled",
      versions: { latest: { version: "1" } },
    });
    const audit = await app.send("GET", "/api/projects/theirs/audit?limit=100", { key: insider });
    const events = (audit.body as { value: { event: string }[] }).value.map(({ event }) => event);
    expect(events.toSorted()).toEqual(["agent_version_created", "connection_created"]);
  });

  test("nothing of it is in the caller's own project", async () => {
    for (const path of ["connections/github", "agents/github", "agents/github/versions/1"]) {
      expect((await app.send("GET", `/api/projects/mine/${path}`, { key: outsider })).status).toBe(404);
    }
    for (const list of ["connections", "agents", "keys", "users", "approvals", "audit"]) {
      const { status, text } = await app.send("GET", `/api/projects/mine/${list}`, { key: outsider });
      expect([list, status]).toEqual([list, 200]);
      expect(text).not.toContain("github");
    }
  });

  test("a connection named by another project's ARM id, or by path tricks, is unknown", async () => {
    const arm = (project: string) =>
      `/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a/projects/${project}/connections/github`;
    expect((await app.send("GET", arm("theirs"), { key: outsider })).status).toBe(404);
    expect((await app.send("GET", arm("theirs"), { key: insider })).status).toBe(200);
    for (const path of [
      "/api/projects/mine/../theirs/connections/github",
      "/api/projects/mine%2F..%2Ftheirs/connections/github",
      "/api/projects/mine/connections/..%2F..%2Ftheirs%2Fconnections%2Fgithub",
      "/api/projects/THEIRS/connections/github",
      "/api/projects/theirs%00/connections/github",
    ]) {
      expect([path, (await app.send("GET", path, { key: outsider })).status]).toEqual([path, 404]);
    }
    for (const reference of [arm("theirs"), "github", "../theirs/connections/github"]) {
      const answer = await app.send("POST", "/api/projects/mine/openai/v1/responses", {
        key: outsider,
        body: {
          input: [],
          tools: [{ type: "mcp", server_label: "x", project_connection_id: reference }],
        },
      });
      expect([reference, answer.status]).toEqual([reference, 400]);
    }
    const agent = await app.send("POST", "/api/projects/mine/openai/v1/responses", {
      key: outsider,
      body: { input: "hi", agent_reference: { type: "agent_reference", name: "github" } },
    });
    expect(agent.status).toBe(400);
  });

  test("a foreign key cannot be listed, rotated or deleted by its id", async () => {
    const [theirs] = await app.world.store.keys.list("theirs");
    for (const [method, path] of [
      ["DELETE", `/api/projects/mine/keys/${theirs?.id}`],
      ["POST", `/api/projects/mine/keys/${theirs?.id}:rotate`],
    ] as const) {
      expect((await app.send(method, path, { key: outsider })).status).toBe(404);
    }
    expect((await app.send("GET", "/api/projects/theirs/connections", { key: insider })).status).toBe(200);
  });
});
