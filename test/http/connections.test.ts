import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startModernServer, type ModernServer } from "../helpers/mcp-servers.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

let app: TestApp;
let server: ModernServer;
beforeAll(async () => {
  app = await createTestApp({ egressAllow: "loopback,*.example.com" });
  server = await startModernServer({ header: { name: "x-api-key", value: "s3cret-canary" } });
});
afterAll(async () => {
  await server.stop();
  await app.stop();
});

const base = "/api/projects/default/connections";
const arm =
  "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.CognitiveServices/accounts/a1/projects/default/connections";
type Body = Record<string, unknown>;
const errorOf = (body: unknown) => (body as { error: Body }).error;
const put = (name: string, properties: Body, path = base) =>
  app.send("PUT", `${path}/${name}`, { body: { properties } });
const keyed = (over: Body = {}) => ({
  authType: "CustomKeys",
  category: "RemoteTool",
  target: server.url,
  credentials: { keys: { "X-Api-Key": "s3cret-canary" } },
  ...over,
});

describe("a connection over REST", () => {
  test("is made, and read back flat with a credential type that is never null", async () => {
    const made = await put("github", keyed({ metadata: { type: "generic_mcp" }, isDefault: true }));
    expect(made.status).toBe(200);
    expect(made.body).toEqual({
      name: "github",
      id: expect.stringMatching(
        /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.CognitiveServices\/accounts\/[^/]+\/projects\/default\/connections\/github$/,
      ),
      type: "RemoteTool",
      target: server.url,
      isDefault: true,
      credentials: { type: "CustomKeys" },
      metadata: { type: "generic_mcp" },
      properties: {
        authType: "CustomKeys",
        category: "RemoteTool",
        target: server.url,
        credentials: { type: "CustomKeys" },
        headerNames: ["X-Api-Key"],
        metadata: { type: "generic_mcp" },
        isDefault: true,
        requireApproval: null,
        allowedTools: null,
        approvers: "caller",
        trustAnnotations: true,
        timeoutMs: 60_000,
        group: "GenericProtocol",
      },
    });
    expect((await app.send("GET", `${base}/github`)).body).toEqual(made.body);
  });

  test("never shows its secrets, in no answer and not in the database", async () => {
    await put("secretive", keyed());
    const answers = await Promise.all([
      app.send("GET", `${base}/secretive`),
      app.send("GET", base),
      app.send("GET", `${arm}/secretive`),
      app.send("PATCH", `${base}/secretive`, { body: { properties: { timeoutMs: 500 } } }),
      app.send("GET", "/api/projects/default/audit"),
    ]);
    for (const answer of answers) {
      expect(answer.status).toBe(200);
      expect(answer.text).not.toContain("s3cret-canary");
    }
    const record = await app.world.store.connections.get("default", "secretive");
    expect(Buffer.from(record?.sealed ?? []).includes("s3cret-canary")).toBe(false);
    expect(JSON.stringify(app.logs)).not.toContain("s3cret-canary");
  });

  test("takes every form of the approval rule and the allow-list, and gives one back", async () => {
    const made = await put(
      "ruled",
      keyed({ requireApproval: { never: ["echo"] }, allowedTools: ["echo", "add"] }),
    );
    expect((made.body as { properties: Body }).properties).toMatchObject({
      requireApproval: { never: { tool_names: ["echo"] } },
      allowedTools: { tool_names: ["echo", "add"] },
    });
  });

  test("takes the project's default rule when it is made", async () => {
    await app.makeProject("strict");
    await app.send("PATCH", "/api/projects/strict/settings", { body: { defaultRequireApproval: "always" } });
    const made = await put("github", keyed(), "/api/projects/strict/connections");
    expect((made.body as { properties: Body }).properties["requireApproval"]).toBe("always");
  });

  test("hears of every fault at once, the first as param", async () => {
    const answer = await put(
      "x",
      keyed({ target: "ftp://x", timeoutMs: 1, credentials: { keys: { Host: "y" } } }),
    );
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)).toMatchObject({ code: "invalid_payload", param: "name" });
    for (const param of ["properties.target", "properties.credentials.keys.Host", "properties.timeoutMs"]) {
      expect(errorOf(answer.body)["message"]).toContain(param);
    }
  });

  test("hears of wrong types by their path", async () => {
    const answer = await put(
      "github",
      keyed({ credentials: { keys: { A: 1 } }, metadata: { a: 1 }, approvers: "x" }),
    );
    const { details } = errorOf(answer.body) as { details: { target: string }[] };
    expect(details.map((fault) => fault.target)).toEqual([
      "properties.credentials.keys.A",
      "properties.metadata.a",
      "properties.approvers",
    ]);
  });

  test("of a later kind is refused in plain words", async () => {
    const answer = await put("later", keyed({ authType: "AgenticUser", credentials: {} }));
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)).toMatchObject({
      message: "authType AgenticUser is not supported by this version.",
      param: "properties.authType",
    });
  });

  test("to a place that egress refuses says what would allow it", async () => {
    const answer = await put("inside", keyed({ target: "https://10.0.0.1/mcp" }));
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)["message"]).toContain("CONSENTRY_EGRESS_ALLOW");
  });

  test("replaced needs its credentials again; changed keeps them", async () => {
    await put("kept", keyed());
    const bare = await put("kept", { authType: "CustomKeys", target: server.url });
    expect(bare.status).toBe(400);
    expect(errorOf(bare.body)["param"]).toBe("properties.credentials.keys");
    await app.send("PATCH", `${base}/kept`, { body: { properties: { metadata: { a: "b" } } } });
    expect((await app.send("POST", `${base}/kept:validate`)).body).toMatchObject({ ok: true, cause: "none" });
  });

  test("moves to a new generation with its place or its proof, not with its secrets", async () => {
    const generation = async () =>
      (await app.world.store.connections.get("default", "moving"))?.connection.generation;
    await put("moving", keyed());
    await app.send("PATCH", `${base}/moving`, {
      body: { properties: { credentials: { keys: { "x-api-key": "new" } } } },
    });
    expect(await generation()).toBe(1);
    await app.send("PATCH", `${base}/moving`, { body: { properties: { target: `${server.url}?x=1` } } });
    expect(await generation()).toBe(2);
    await app.send("PATCH", `${base}/moving`, { body: { properties: { authType: "None" } } });
    expect(await generation()).toBe(3);
    expect((await app.world.store.connections.get("default", "moving"))?.sealed).toBeNull();
  });

  test("is another one when it was deleted and made again", async () => {
    await put("again", keyed());
    const before = await app.world.store.connections.get("default", "again");
    expect((await app.send("DELETE", `${base}/again`)).status).toBe(204);
    expect((await app.send("GET", `${base}/again`)).status).toBe(404);
    expect((await app.send("DELETE", `${base}/again`)).status).toBe(404);
    await put("again", keyed());
    expect((await app.world.store.connections.get("default", "again"))?.connection.id).not.toBe(
      before?.connection.id,
    );
  });

  test("changed by twenty at once takes every change, and each is sealed for its version", async () => {
    await put("busy", keyed());
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        app.send("PATCH", `${base}/busy`, { body: { properties: { timeoutMs: 1_000 + at } } }),
      ),
    );
    expect(answers.map((answer) => answer.status)).toEqual(Array(20).fill(200));
    expect((await app.world.store.connections.get("default", "busy"))?.connection.version).toBe(21);
    expect((await app.send("POST", `${base}/busy/getConnectionWithCredentials`)).body).toMatchObject({
      credentials: { "X-Api-Key": "s3cret-canary" },
    });
  });

  test("made by ten at once is made once, and changed nine times", async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => put("racing", keyed())));
    expect(answers.map((answer) => answer.status)).toEqual(Array(10).fill(200));
    const record = await app.world.store.connections.get("default", "racing");
    expect(record?.connection.version).toBe(10);
  });
});

describe("the list of connections", () => {
  beforeAll(async () => {
    await app.makeProject("listed");
    for (const name of ["con-a", "con-b", "con-c"]) {
      await put(name, keyed({ isDefault: name === "con-b" }), "/api/projects/listed/connections");
    }
  });
  const list = async (query: string) =>
    (await app.send("GET", `/api/projects/listed/connections${query}`)).body as {
      value: { name: string; credentials: Body }[];
      nextLink?: string;
    };
  const names = async (query: string) => (await list(query)).value.map(({ name }) => name);

  test("gives each a credentials object", async () => {
    for (const { credentials } of (await list("")).value) expect(credentials).toEqual({ type: "CustomKeys" });
  });

  test("is filtered by type, in both spellings, by default and by target", async () => {
    expect(await names("?connectionType=RemoteTool")).toHaveLength(3);
    expect(await names("?connectionType=RemoteTool_Preview")).toHaveLength(3);
    expect(await names("?connectionType=AzureOpenAI")).toEqual([]);
    expect(await names("?defaultConnection=true&limit=1")).toEqual(["con-b"]);
    expect(await names("?defaultConnection=false")).toHaveLength(3);
    expect(await names(`?target=${encodeURIComponent(server.url)}`)).toHaveLength(3);
    expect(await names("?target=https://other.example.com")).toEqual([]);
  });

  test("is paged by an absolute link on the public URL that keeps the query", async () => {
    const first = await list("?limit=2&api-version=v1");
    expect(first.value.map(({ name }) => name)).toEqual(["con-a", "con-b"]);
    expect(first.nextLink).toBe(
      `https://${HOST}/api/projects/listed/connections?limit=2&api-version=v1&after=con-b`,
    );
    const second = await app.send("GET", first.nextLink?.replace(`https://${HOST}`, "") ?? "");
    expect(second.body).toEqual({ value: [expect.objectContaining({ name: "con-c" })] });
  });

  test("refuses a limit that is none", async () => {
    for (const limit of ["0", "101", "x", "1.5"]) {
      const answer = await app.send("GET", `/api/projects/listed/connections?limit=${limit}`);
      expect([limit, answer.status]).toEqual([limit, 400]);
      expect(errorOf(answer.body)["param"]).toBe("limit");
    }
  });
});

describe("the credentials", () => {
  test("come back flat beside the type, with the right, and each reading is audited", async () => {
    await put("readable", keyed());
    const before = await app.send(
      "GET",
      "/api/projects/default/audit?event=credentials_read&connection=readable",
    );
    expect((before.body as { value: unknown[] }).value).toHaveLength(0);
    for (let n = 0; n < 2; n++) {
      const answer = await app.send("POST", `${base}/readable/getConnectionWithCredentials`);
      expect((answer.body as Body)["credentials"]).toEqual({
        type: "CustomKeys",
        "X-Api-Key": "s3cret-canary",
      });
      expect((answer.body as { properties: Body }).properties["credentials"]).toEqual({ type: "CustomKeys" });
    }
    const after = await app.send(
      "GET",
      "/api/projects/default/audit?event=credentials_read&connection=readable",
    );
    expect((after.body as { value: unknown[] }).value).toHaveLength(2);
    expect(after.text).not.toContain("s3cret");
  });

  test("stay away without the right, whatever the role", async () => {
    await put("closed", keyed());
    const { key } = await app.makeKey({ roles: ["admin", "runtime", "approver"], rights: ["act_for_users"] });
    const answer = await app.send("POST", `${base}/closed/getConnectionWithCredentials`, { key });
    expect(answer.status).toBe(200);
    expect((answer.body as Body)["credentials"]).toEqual({ type: "CustomKeys" });
    expect(answer.text).not.toContain("s3cret");
  });

  test("of an open connection are its type", async () => {
    await put("open", { authType: "None", target: server.url });
    const answer = await app.send("POST", `${base}/open/getConnectionWithCredentials`);
    expect((answer.body as Body)["credentials"]).toEqual({ type: "None" });
  });
});

describe("the management resource", () => {
  test("is the same connection in ARM's shape: null credentials, and the ids of the caller's path", async () => {
    const made = await put("managed", keyed({ metadata: { toolEntityId: "x" } }), arm);
    expect(made.status).toBe(200);
    expect(made.body).toEqual({
      id: `${arm}/managed`,
      name: "managed",
      type: "Microsoft.CognitiveServices/accounts/projects/connections",
      systemData: { createdAt: expect.any(String), lastModifiedAt: expect.any(String) },
      properties: expect.objectContaining({
        authType: "CustomKeys",
        credentials: null,
        metadata: { toolEntityId: "x" },
      }),
    });
    const listed = (await app.send("GET", arm)).body as { value: Body[] };
    expect(listed.value).toContainEqual(made.body);
    expect((await app.send("GET", `${base}/managed`)).status).toBe(200);
    expect((await app.send("DELETE", `${arm}/managed`)).status).toBe(204);
    expect((await app.send("GET", `${base}/managed`)).status).toBe(404);
  });

  test("sent back as it was read changes nothing, null credentials included", async () => {
    await put("echoed", keyed(), arm);
    const read = (await app.send("GET", `${arm}/echoed`)).body as { properties: Body };
    const patched = await app.send("PATCH", `${arm}/echoed`, { body: read });
    expect((patched.body as { properties: Body }).properties).toEqual(read.properties);
    expect((await app.send("POST", `${base}/echoed:validate`)).body).toMatchObject({ ok: true });
  });

  test("of another project is 404", async () => {
    expect((await app.send("GET", arm.replace("projects/default", "projects/none"))).status).toBe(404);
  });
});

describe(":validate", () => {
  type Validation = {
    ok: boolean;
    cause: string;
    hints: string[];
    notes: string[];
    tools: Body[];
    toolCount: number;
  };
  const validate = async (name: string) =>
    (await app.send("POST", `${base}/${name}:validate`)).body as Validation;

  test("lists the tools and says how each is treated", async () => {
    await put(
      "good",
      keyed({ requireApproval: { never: { read_only: true } }, allowedTools: ["echo", "add"] }),
    );
    const validation = await validate("good");
    expect(validation).toMatchObject({ ok: true, cause: "none" });
    expect(validation.toolCount).toBe(validation.tools.length);
    expect(validation.tools).toContainEqual({
      name: "echo",
      description: expect.anything(),
      readOnly: expect.any(Boolean),
      allowed: true,
      needsApproval: expect.any(Boolean),
      changed: false,
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(validation.tools.some((tool) => tool["allowed"] === false)).toBe(true);
  });

  test("tells a wrong key from a missing one, a wrong path and a dead host", async () => {
    await put("wrong", keyed({ credentials: { keys: { "X-Api-Key": "nope" } } }));
    expect(await validate("wrong")).toMatchObject({ ok: false, cause: "key_rejected" });
    await put("named", keyed({ credentials: { keys: { Authorization: "s3cret-canary" } } }));
    expect(await validate("named")).toMatchObject({ ok: false, cause: "key_format" });
    await put("missing", { authType: "None", target: server.url });
    expect(await validate("missing")).toMatchObject({ ok: false, cause: "key_missing" });
    await put("dead", keyed({ target: "http://127.0.0.1:9/mcp" }));
    expect(await validate("dead")).toMatchObject({
      ok: false,
      cause: expect.stringMatching(/unreachable|egress/),
    });
  });

  test("is audited with its outcome, and an unknown connection is 404", async () => {
    await put("seen", keyed());
    await validate("seen");
    const audit = await app.send(
      "GET",
      "/api/projects/default/audit?event=connection_validated&connection=seen",
    );
    expect((audit.body as { value: Body[] }).value).toMatchObject([
      { outcome: "ok", detail: { cause: "none" } },
    ]);
    expect((await app.send("POST", `${base}/unknown:validate`)).status).toBe(404);
  });
});

describe("tools that changed", () => {
  test("are seen by a listing, and accepted once they were read", async () => {
    const changing = await startModernServer({});
    await put("changing", { authType: "None", target: changing.url });
    await app.send("POST", `${base}/changing:validate`);
    const pins = async () =>
      ((await app.send("GET", `${base}/changing/tools`)).body as { value: Body[] }).value.filter(
        ({ name }) => name === "echo",
      );
    const [before] = await pins();
    expect(before).toMatchObject({ changed: false });

    const echo = changing.tools.find((tool) => tool.name === "echo");
    if (!echo) throw new Error("the test server has no tool echo");
    echo.description = "Now does something else";
    const validation = await app.send("POST", `${base}/changing:validate`);
    expect((validation.body as { notes: string[] }).notes.join(" ")).toContain(
      "until an admin accepts them: echo",
    );
    const [changed] = await pins();
    expect(changed).toMatchObject({ changed: true, pinnedHash: before?.["pinnedHash"] });

    const accept = (body?: Body) => app.send("POST", `${base}/changing/tools/echo:accept`, { body });
    expect((await accept({ hash: before?.["seenHash"] })).status).toBe(409);
    const accepted = await accept({ hash: changed?.["seenHash"] });
    expect(accepted.body).toMatchObject({ name: "echo", changed: false, pinnedHash: changed?.["seenHash"] });
    expect(await pins()).toMatchObject([{ changed: false }]);
    expect((await app.send("POST", `${base}/changing/tools/none:accept`)).status).toBe(404);
    await changing.stop();
  });
});
