import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestApp, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp();
});
afterAll(() => app.stop());

type Body = Record<string, unknown>;
const base = "/api/projects/default/agents";
const definition = {
  kind: "prompt",
  model: "gpt-4o",
  instructions: "Be brief.",
  tools: [
    {
      type: "mcp",
      server_label: "github",
      server_url: "https://mcp.example.com/mcp",
      require_approval: { never: ["search"] },
      project_connection_id: "github",
    },
  ],
  something_new: { kept: true },
};
const post = (path: string, body?: unknown) => app.send("POST", `${base}${path}`, { body });
const errorOf = (body: unknown) => (body as { error: Body }).error;

describe("an agent", () => {
  test("is made with 200, and comes back with its latest version and unix seconds", async () => {
    const made = await post("", {
      name: "writer",
      definition,
      metadata: { team: "docs" },
      description: "Writes",
    });
    expect(made.status).toBe(200);
    expect(made.body).toEqual({
      object: "agent",
      id: "writer",
      name: "writer",
      state: "enabled",
      identity: "shared",
      versions: {
        latest: {
          object: "agent.version",
          id: "writer:1",
          name: "writer",
          version: "1",
          status: "active",
          metadata: { team: "docs" },
          description: "Writes",
          created_at: expect.any(Number),
          draft: false,
          definition,
        },
      },
      agent_endpoint: {
        version_selector: {
          version_selection_rules: [{ type: "FixedRatio", agent_version: "1", traffic_percentage: 100 }],
        },
        protocol_configuration: { responses: {} },
      },
    });
    const { created_at: createdAt } = (made.body as { versions: { latest: { created_at: number } } }).versions
      .latest;
    expect(Math.abs(createdAt - Date.now() / 1000)).toBeLessThan(60);
    expect((await app.send("GET", `${base}/writer`)).body).toEqual(made.body);
  });

  test("made twice is 409 in the error body that the SDK reads", async () => {
    await post("", { name: "twice", definition });
    const answer = await post("", { name: "twice", definition });
    expect(answer.status).toBe(409);
    expect(answer.headers.get("x-should-retry")).toBe("false");
    expect(errorOf(answer.body)).toMatchObject({
      code: "Conflict",
      message: expect.stringContaining("twice"),
    });
  });

  test("updated without a change keeps its version; with one it gets the next", async () => {
    await post("", { name: "updated", definition });
    const same = await post("/updated", { definition: { ...definition } });
    expect(same.body).toMatchObject({ versions: { latest: { version: "1" } } });
    const next = await post("/updated", { definition: { ...definition, model: "gpt-5" } });
    expect(next.status).toBe(200);
    expect(next.body).toMatchObject({ versions: { latest: { version: "2" } } });
    expect((await post("/nobody", { definition })).status).toBe(404);
  });

  test("takes Foundry's patch of endpoint and card", async () => {
    await post("", { name: "patched", definition });
    const headers = { "content-type": "application/merge-patch+json" };
    const answer = await app.send("PATCH", `${base}/patched`, {
      body: { agent_endpoint: { protocols: ["a2a"] }, agent_card: { description: "x" } },
      headers,
    });
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({ name: "patched", versions: { latest: { version: "1" } } });
    expect((await app.send("PATCH", `${base}/nobody`, { body: {} })).status).toBe(404);
  });

  test("is disabled and enabled with 204, and can be made disabled", async () => {
    await post("", { name: "switched", definition });
    expect((await post("/switched:disable")).status).toBe(204);
    expect((await app.send("GET", `${base}/switched`)).body).toMatchObject({ state: "disabled" });
    expect((await post("/switched:enable")).status).toBe(204);
    expect((await app.send("GET", `${base}/switched`)).body).toMatchObject({ state: "enabled" });
    expect((await post("/nobody:enable")).status).toBe(404);
    const off = await post("", { name: "off", definition, state: "disabled" });
    expect(off.body).toMatchObject({ state: "disabled" });
    expect((await app.send("GET", `${base}/off`)).body).toMatchObject({ state: "disabled" });
  });

  test("is deleted with 200 and a body, forced or not, with a body sent or not", async () => {
    await post("", { name: "gone", definition });
    const answer = await app.send("DELETE", `${base}/gone?force=true`, { body: {} });
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({ object: "agent.deleted", name: "gone", deleted: true });
    expect((await app.send("DELETE", `${base}/gone`)).status).toBe(404);
  });
});

describe("versions of an agent", () => {
  test("make the agent where there is none", async () => {
    const made = await post("/fresh/versions", { definition });
    expect(made.status).toBe(200);
    expect(made.body).toMatchObject({ object: "agent.version", id: "fresh:1", version: "1" });
    expect((await post("/fresh/versions", { definition })).body).toMatchObject({ version: "2" });
  });

  test("made by fifteen at once are fifteen, each with a number of its own", async () => {
    const answers = await Promise.all(
      Array.from({ length: 15 }, (_, at) => post("/raced/versions", { definition, description: `${at}` })),
    );
    const numbers = answers.map((answer) => Number((answer.body as Body)["version"]));
    expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 15 }, (_, at) => at + 1));
  });

  test("are read and deleted by number; deleting the last one deletes the agent", async () => {
    for (const model of ["a", "b"]) await post("/aged/versions", { definition: { ...definition, model } });
    expect((await app.send("GET", `${base}/aged/versions/1`)).body).toMatchObject({
      definition: { model: "a" },
    });
    for (const none of ["3", "0", "x", "01", "1.0"]) {
      expect((await app.send("GET", `${base}/aged/versions/${none}`)).status).toBe(404);
    }
    const deleted = await app.send("DELETE", `${base}/aged/versions/2?force=true`, { body: {} });
    expect(deleted.status).toBe(200);
    expect(deleted.body).toEqual({
      object: "agent.version.deleted",
      name: "aged",
      version: "2",
      deleted: true,
    });
    expect((await app.send("GET", `${base}/aged`)).body).toMatchObject({
      versions: { latest: { version: "1" } },
    });
    await app.send("DELETE", `${base}/aged/versions/1`);
    expect((await app.send("GET", `${base}/aged`)).status).toBe(404);
  });

  test("are listed newest first and paged by the id they have", async () => {
    for (let n = 0; n < 5; n++) await post("/paged/versions", { definition, description: `${n}` });
    const ids: string[] = [];
    let after = "";
    for (;;) {
      const { body } = await app.send("GET", `${base}/paged/versions?limit=2${after}&include_drafts=true`);
      const page = body as { data: { id: string }[]; last_id: string; has_more: boolean };
      ids.push(...page.data.map(({ id }) => id));
      if (!page.has_more) break;
      after = `&after=${encodeURIComponent(page.last_id)}`;
    }
    expect(ids).toEqual(["paged:5", "paged:4", "paged:3", "paged:2", "paged:1"]);
    expect((await app.send("GET", `${base}/nobody/versions`)).status).toBe(404);
  });
});

describe("the list of agents", () => {
  beforeAll(async () => {
    await app.makeProject("crowd");
    for (const name of ["ann", "bob", "cid"]) {
      await app.send("POST", "/api/projects/crowd/agents", { body: { name, definition } });
    }
  });
  const list = async (query: string) =>
    (await app.send("GET", `/api/projects/crowd/agents${query}`)).body as {
      data: { name: string }[];
      first_id: string | null;
      last_id: string | null;
      has_more: boolean;
    };

  test("goes on with after=<last_id> over pages", async () => {
    const first = await list("?limit=2&api-version=v1");
    expect(first).toMatchObject({ object: "list", first_id: "ann", last_id: "bob", has_more: true });
    const second = await list(`?limit=2&after=${first.last_id}`);
    expect(second).toMatchObject({ first_id: "cid", last_id: "cid", has_more: false });
    expect(second.data).toMatchObject([
      { name: "cid", versions: { latest: { definition: { kind: "prompt" } } } },
    ]);
  });

  test("of another kind is empty", async () => {
    expect(await list("?kind=prompt")).toMatchObject({ data: [{}, {}, {}] });
    expect(await list("?kind=hosted")).toEqual({
      object: "list",
      data: [],
      first_id: null,
      last_id: null,
      has_more: false,
    });
  });

  test("cannot be paged backwards, and says so", async () => {
    const answer = await app.send("GET", "/api/projects/crowd/agents?before=bob");
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)["param"]).toBe("before");
  });
});

describe("a definition", () => {
  const refusal = async (changed: unknown) => {
    const answer = await post("/checked/versions", { definition: changed });
    expect(answer.status).toBe(400);
    return errorOf(answer.body);
  };

  test.each(["hosted", "workflow", "external", "voice", "toString"])(
    "of kind %s is not supported",
    async (kind) => {
      expect(await refusal({ ...definition, kind })).toMatchObject({
        param: "definition.kind",
        message: expect.stringContaining("not supported by this version"),
      });
    },
  );

  test.each([
    [undefined, "definition"],
    [[], "definition"],
    [{ model: "m" }, "definition.kind"],
    [{ kind: "prompt" }, "definition.model"],
    [{ kind: "prompt", model: "m", tools: {} }, "definition.tools"],
    [{ kind: "prompt", model: "m", tools: [{ type: "mcp" }] }, "definition.tools[0].server_label"],
    [
      {
        kind: "prompt",
        model: "m",
        tools: [{ type: "mcp", server_label: "a", require_approval: "perhaps" }],
      },
      "definition.tools[0].require_approval",
    ],
  ])("%j is refused by its field", async (changed, param) => {
    expect(await refusal(changed)).toMatchObject({ param });
  });

  test("holds no secrets, for all readers of the agent read it", async () => {
    const withTool = (tool: Body) => ({
      ...definition,
      tools: [{ type: "mcp", server_label: "a", server_url: "https://a.example", ...tool }],
    });
    for (const name of ["Authorization", "x-api-key", "X-Client-Secret", "session-token", "Cookie"]) {
      const error = await refusal(withTool({ headers: { [name]: "s3cret" } }));
      expect(error["param"]).toBe(`definition.tools[0].headers.${name}`);
    }
    expect((await refusal(withTool({ authorization: "s3cret" })))["param"]).toBe(
      "definition.tools[0].authorization",
    );
    const fine = withTool({
      headers: { "X-Api-Key": "{{api_key}}", "X-Tenant": "t1" },
      authorization: "{{token}}",
    });
    expect((await post("/placed/versions", { definition: fine })).status).toBe(200);
  });

  test("as a draft is not supported, rather than going live", async () => {
    const answer = await post("/drafted/versions", { definition, draft: true });
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)["param"]).toBe("draft");
    expect((await post("/drafted/versions", { definition, draft: false })).status).toBe(200);
  });

  test("needs an agent name that can be one", async () => {
    for (const name of ["", "-a", "a-", "a b", "a".repeat(64), "../x", "a:b"]) {
      const answer = await post("", { name, definition });
      expect([name, answer.status]).toEqual([name, 400]);
      expect(errorOf(answer.body)["param"]).toBe("name");
    }
  });
});

test("every change is in the audit", async () => {
  await app.makeProject("audited");
  const path = "/api/projects/audited/agents";
  await app.send("POST", path, { body: { name: "one", definition } });
  await app.send("POST", `${path}/one:disable`);
  await app.send("POST", `${path}/one/versions`, { body: { definition } });
  await app.send("DELETE", `${path}/one/versions/1`);
  await app.send("DELETE", `${path}/one`);
  const { body } = await app.send("GET", "/api/projects/audited/audit");
  expect((body as { value: { event: string }[] }).value.map(({ event }) => event)).toEqual([
    "agent_deleted",
    "agent_version_deleted",
    "agent_version_created",
    "agent_changed",
    "agent_version_created",
  ]);
});
