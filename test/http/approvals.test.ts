import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";

let app: TestApp;
let server: ModernServer;
let runtime: string;
let approver: string;
beforeAll(async () => {
  app = await createTestApp();
  server = await startModernServer();
  runtime = (await app.makeKey({ roles: ["runtime"], rights: ["act_for_users"] })).key;
  approver = (await app.makeKey({ roles: ["approver"] })).key;
  for (const [name, approvers] of [
    ["plain", "caller"],
    ["guarded", "role"],
  ] as const) {
    await app.send("PUT", `${project}/connections/${name}`, {
      body: { properties: { authType: "None", target: server.url, requireApproval: "always", approvers } },
    });
  }
});
afterAll(async () => {
  await app.stop();
  await server.stop();
});

type Body = Record<string, unknown>;
const project = "/api/projects/default";
const path = `${project}/approvals`;
const errorOf = (body: unknown) => (body as { error: Body }).error;
const valueOf = (body: unknown) => (body as { value: Body[] }).value;

/** Has a call held, and gives its id and the response that asked. */
async function hold(connection = "plain", user: string | null = null) {
  const answer = await app.send("POST", `${project}/openai/v1/responses`, {
    key: runtime,
    headers: user === null ? {} : { "x-ms-user-identity": user },
    body: {
      tools: [{ type: "mcp", server_label: connection }],
      input: [
        {
          type: "mcp_call",
          id: `mcp_${crypto.randomUUID()}`,
          server_label: connection,
          name: "echo",
          arguments: '{"text":"hello"}',
          status: "calling",
        },
      ],
    },
  });
  const { id, output } = answer.body as { id: string; output: { type: string; id: string }[] };
  const request = output.find((item) => item.type === "mcp_approval_request");
  if (!request) throw new Error(`nothing was held: ${answer.text}`);
  return { id: request.id, responseId: id };
}

const decide = (id: string, key: string, body: Body = { approve: true }, headers = {}) =>
  app.send("POST", `${path}/${id}:decide`, { key, body, headers });
const callsSeen = () => server.seen("tools/call").length;

describe("an approval", () => {
  test("is read with the exact arguments, and all that it is bound to", async () => {
    const { id, responseId } = await hold("plain", "ann");
    const answer = await app.send("GET", `${path}/${id}`, { key: approver });
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      id,
      status: "pending",
      serverLabel: "plain",
      connection: "plain",
      target: server.url,
      tool: "echo",
      arguments: '{"text":"hello"}',
      argumentsDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
      definitionHash: expect.stringMatching(/^[0-9a-f]{64}$/),
      user: "app:ann",
      principal: expect.any(String),
      agent: null,
      responseId,
      approvers: "caller",
      createdAt: expect.any(String),
      expiresAt: expect.any(String),
      decidedAt: null,
      decidedBy: null,
      reason: null,
    });
  });

  test("is only decided over REST: the call runs on the owner's next request, once", async () => {
    const { id, responseId } = await hold();
    const before = callsSeen();
    const decided = await decide(id, approver, { approve: true, reason: "fine" });
    expect(decided.status).toBe(200);
    expect(decided.body).toMatchObject({ status: "approved", reason: "fine", decidedBy: expect.any(String) });
    expect(callsSeen()).toBe(before);
    const resume = () =>
      app.send("POST", `${project}/openai/v1/responses`, {
        key: runtime,
        body: { previous_response_id: responseId, input: [] },
      });
    const resumed = await resume();
    expect((resumed.body as { output: Body[] }).output).toContainEqual(
      expect.objectContaining({ type: "mcp_call", approval_request_id: id, status: "completed" }),
    );
    await resume();
    expect(callsSeen()).toBe(before + 1);
    expect((await app.send("GET", `${path}/${id}`, { key: approver })).body).toMatchObject({
      status: "done",
    });
  });

  test("decided twice the same way is history; decided otherwise is 400 and never retried", async () => {
    const { id } = await hold();
    expect((await decide(id, approver, { approve: false, reason: "no" })).body).toMatchObject({
      status: "denied",
    });
    expect((await decide(id, approver, { approve: false })).status).toBe(200);
    const other = await decide(id, approver, { approve: true });
    expect(other.status).toBe(400);
    expect(other.headers.get("x-should-retry")).toBe("false");
    expect(errorOf(other.body)).toMatchObject({ type: "approval_contradicted" });
  });

  test("decided by twenty at once is decided once, with one audit entry", async () => {
    const { id } = await hold();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, at) => decide(id, approver, { approve: at % 2 === 0 })),
    );
    const ways = answers.map(
      (answer) => `${answer.status} ${(answer.body as { status?: string }).status ?? "-"}`,
    );
    expect(new Set(ways).size).toBe(2);
    expect(ways.filter((way) => way.startsWith("200"))).toHaveLength(10);
    const audit = await app.send("GET", `${project}/audit?approvalId=${id}`);
    const events = valueOf(audit.body).map(({ event }) => event);
    expect(events.filter((event) => event !== "approval_requested")).toHaveLength(1);
  });

  test("past its time is expired, in the list, by itself and for deciders", async () => {
    await app.send("PATCH", `${project}/settings`, { body: { approvals: { expireAfterMs: 60_000 } } });
    const { id } = await hold();
    app.advance(60_001);
    expect((await app.send("GET", `${path}/${id}`, { key: approver })).body).toMatchObject({
      status: "expired",
    });
    const listed = await app.send("GET", `${path}?status=expired`, { key: approver });
    expect(valueOf(listed.body).map((row) => row["id"])).toContain(id);
    const late = await decide(id, approver);
    expect(late.status).toBe(400);
    expect(errorOf(late.body)).toMatchObject({ type: "approval_expired" });
    await app.send("PUT", `${project}/settings`, { body: {} });
  });

  test("of a guarded connection needs the role and another caller", async () => {
    const { id } = await hold("guarded");
    const own = await decide(id, runtime);
    expect(own.status).toBe(403);
    expect(errorOf(own.body)).toMatchObject({ type: "approval_needs_role" });
    expect((await decide(id, approver)).body).toMatchObject({ status: "approved" });
  });

  test("of a blocked user is cancelled", async () => {
    const { id } = await hold("plain", "leaver");
    await app.send("DELETE", `${project}/users/leaver`);
    const answer = await decide(id, approver);
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)).toMatchObject({ type: "approval_cancelled" });
  });

  test("needs a decision that is one", async () => {
    const { id } = await hold();
    for (const body of [
      {},
      { approve: "yes" },
      { approve: true, reason: 7 },
      { approve: true, reason: "x".repeat(5_000) },
    ]) {
      expect((await decide(id, approver, body)).status).toBe(400);
    }
    expect((await app.send("GET", `${path}/${id}`, { key: approver })).body).toMatchObject({
      status: "pending",
    });
  });
});

describe("the list of approvals", () => {
  test("is newest first, filtered by status and paged", async () => {
    const ids = [];
    for (let n = 0; n < 3; n++) ids.unshift((await hold()).id);
    const seen: unknown[] = [];
    let next: string | undefined = `${path}?status=pending&limit=2`;
    while (next !== undefined) {
      const { body } = await app.send("GET", next.replace(`https://${HOST}`, ""), { key: approver });
      seen.push(...valueOf(body).map((row) => row["id"]));
      next = (body as { nextLink?: string }).nextLink;
    }
    expect(seen.slice(0, 3)).toEqual(ids);
    expect(new Set(seen).size).toBe(seen.length);
    expect((await app.send("GET", `${path}?status=odd`, { key: approver })).status).toBe(400);
  });
});
