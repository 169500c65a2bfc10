import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Right, Role } from "../../src/core/identity.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";

// A5, over REST: somebody else's approval or response, asked for by its id, is as unknown as one that never was.
let app: TestApp;
let server: ModernServer;
let owner: string;
beforeAll(async () => {
  app = await createTestApp();
  server = await startModernServer();
  await app.send("PUT", `${project}/connections/tools`, {
    body: { properties: { authType: "None", target: server.url } },
  });
  owner = await keyWith(["runtime"], ["act_for_users"]);
});
afterAll(async () => {
  await app.stop();
  await server.stop();
});

const project = "/api/projects/default";
const keyWith = async (roles: Role[], rights: Right[] = []) => (await app.makeKey({ roles, rights })).key;
const as = (user: string) => ({ "x-ms-user-identity": user });

async function hold(headers: Record<string, string>): Promise<{ approval: string; response: string }> {
  const call = {
    type: "mcp_call",
    id: `mcp_${crypto.randomUUID()}`,
    server_label: "tools",
    name: "echo",
    arguments: '{"text":"s3cret"}',
    status: "calling",
  };
  const { body } = await app.send("POST", `${project}/openai/v1/responses`, {
    key: owner,
    headers,
    body: { tools: [{ type: "mcp", server_label: "tools" }], input: [call] },
  });
  const { id, output } = body as { id: string; output: { type: string; id: string }[] };
  const approval = output.find((item) => item.type === "mcp_approval_request")?.id ?? "";
  return { approval, response: id };
}

describe("A5: another's approval and response", () => {
  test("are unknown to other callers and other users, in the same words as what never was", async () => {
    const { approval, response } = await hold(as("ann"));
    const strangers = [
      { key: await keyWith(["runtime"], ["act_for_users"]), headers: {} },
      { key: await keyWith(["runtime"], ["act_for_users"]), headers: as("bob") },
      { key: await keyWith(["runtime"]), headers: {} },
      { key: owner, headers: as("bob") },
    ];
    const never = { approval: `mcpr_${"0".repeat(50)}`, response: `resp_${"0".repeat(50)}` };
    for (const { key, headers } of strangers) {
      const asks = [
        ["GET", "approvals/{approval}"],
        ["POST", "approvals/{approval}:decide"],
        ["GET", "openai/v1/responses/{response}"],
        ["DELETE", "openai/v1/responses/{response}"],
        ["GET", "openai/v1/responses/{response}/input_items"],
        ["POST", "openai/v1/responses/{response}/cancel"],
      ] as const;
      for (const [method, template] of asks) {
        const ask = (ids: typeof never) =>
          app.send(
            method,
            `${project}/${template.replace("{approval}", ids.approval).replace("{response}", ids.response)}`,
            { key, headers, body: { approve: true } },
          );
        const foreign = await ask({ approval, response });
        const unknown = await ask(never);
        expect([template, foreign.status]).toEqual([template, 404]);
        expect(foreign.text.replaceAll(approval, never.approval).replaceAll(response, never.response)).toBe(
          unknown.text,
        );
      }
      const listed = await app.send("GET", `${project}/approvals`, { key, headers });
      expect([listed.status, listed.text.includes(approval)]).toEqual([200, false]);
    }
    const still = await app.send("GET", `${project}/approvals/${approval}`, {
      key: owner,
      headers: as("ann"),
    });
    expect(still.body).toMatchObject({ status: "pending" });
  });

  test("go on only for their owner: in a body they are 400, and nothing runs", async () => {
    const { approval, response } = await hold(as("ann"));
    const before = server.seen("tools/call").length;
    const decision = { type: "mcp_approval_response", approval_request_id: approval, approve: true };
    for (const body of [
      { previous_response_id: response, input: [] },
      { previous_response_id: response, input: [decision] },
      { input: [decision], tools: [{ type: "mcp", server_label: "tools" }] },
    ]) {
      const answer = await app.send("POST", `${project}/openai/v1/responses`, {
        key: owner,
        headers: as("bob"),
        body,
      });
      expect(answer.status).toBe(400);
      expect((answer.body as { error: { code: string } }).error.code).toMatch(
        /^(previous_response_not_found|approval_not_found)$/,
      );
    }
    expect(server.seen("tools/call")).toHaveLength(before);
  });

  test("are the owner's user's, and an approver's to decide", async () => {
    const { approval } = await hold(as("ann"));
    const approver = await keyWith(["approver"]);
    expect((await app.send("GET", `${project}/approvals/${approval}`, { key: approver })).status).toBe(200);
    const decided = await app.send("POST", `${project}/approvals/${approval}:decide`, {
      key: owner,
      headers: as("ann"),
      body: { approve: false },
    });
    expect(decided.body).toMatchObject({ status: "denied" });
  });

  test("are not for an admin to decide", async () => {
    const { approval } = await hold(as("ann"));
    const admin = await keyWith(["admin"]);
    const answer = await app.send("POST", `${project}/approvals/${approval}:decide`, {
      key: admin,
      body: { approve: true },
    });
    expect(answer.status).toBe(403);
  });
});
