import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestApp, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp({ egressAllow: "loopback,*.example.com" });
});
afterAll(() => app.stop());

const project = "/api/projects/default";
type Body = Record<string, unknown>;
const errorOf = (body: unknown) => (body as { error: Body & { details?: Body[] } }).error;
const open = { authType: "None", target: "https://mcp.example.com/mcp" };

describe("a property of a connection that is nearly one of ours", () => {
  const put = (properties: Body) =>
    app.send("PUT", `${project}/connections/near`, { body: { properties: { ...open, ...properties } } });

  test.each([
    ["require_approval", "requireApproval"],
    ["requireAproval", "requireApproval"],
    ["require-approval", "requireApproval"],
    ["RequireApproval", "requireApproval"],
    ["allowed_tools", "allowedTools"],
    ["allowedTool", "allowedTools"],
    ["timeoutms", "timeoutMs"],
    ["timeout", "timeoutMs"],
    ["approver", "approvers"],
    ["trust_annotations", "trustAnnotations"],
    ["trustAnotation", "trustAnnotations"],
  ])("is refused: %s is not known, %s is", async (given, meant) => {
    const param = `properties.${given}`;
    const expected = {
      param,
      details: [
        { code: "InvalidField", target: param, message: `is not known here; did you mean ${meant}?` },
      ],
    };
    for (const method of ["PUT", "PATCH"]) {
      await put({});
      const body = { properties: { ...open, [given]: "never" } };
      const answer = await app.send(method, `${project}/connections/near`, { body });
      expect([answer.status, errorOf(answer.body)]).toEqual([400, expect.objectContaining(expected)]);
    }
  });

  test("is refused beside the right one, too, and nothing is written", async () => {
    await put({ requireApproval: "always" });
    expect((await put({ requireApproval: "never", require_approval: "always" })).status).toBe(400);
    const { body } = await app.send("GET", `${project}/connections/near`);
    expect((body as { properties: Body }).properties["requireApproval"]).toBe("always");
  });

  test("is told apart from what other makers' clients send, which stays ignored", async () => {
    const foreign = {
      group: "GenericProtocol",
      peRequirement: "NotRequired",
      peStatus: "NotApplicable",
      isSharedToAll: false,
      sharedUserList: [],
      useWorkspaceManagedIdentity: false,
      useCustomConnector: false,
      expiryTime: null,
      error: null,
      createdByWorkspaceArmId: "x",
      audience: "api://x",
      authorizationUrl: "https://a.example.com",
      connectorName: "x",
      overallStatus: "Connected",
      redirectUrl: "https://r.example.com",
      headerNames: [],
    };
    expect((await put(foreign)).status).toBe(200);
  });

  test("and a connection that was read may be sent back as it is", async () => {
    await put({});
    const { body } = await app.send("GET", `${project}/connections/near`);
    expect((await app.send("PUT", `${project}/connections/near`, { body })).status).toBe(200);
  });
});

describe("a query that nobody knows", () => {
  test.each([
    [
      "audit",
      "conection=github",
      "limit, after, event, outcome, user, principal, connection, tool, responseId, approvalId, requestId, since, until",
    ],
    ["audit", "response_id=resp_1", "limit, after, event"],
    ["approvals", "state=pending", "limit, after, status"],
  ])("of %s?%s is refused with the names that are known", async (list, query, known) => {
    const answer = await app.send("GET", `${project}/${list}?${query}`);
    const name = query.split("=")[0];
    expect([answer.status, errorOf(answer.body)]).toEqual([
      400,
      expect.objectContaining({
        param: name,
        message: expect.stringContaining(`${name}: is not known here; known are ${known}`),
      }),
    ]);
  });

  test("does not mean api-version, which Azure's clients always send, nor does it filter", async () => {
    await app.send("PUT", `${project}/connections/near`, { body: { properties: open } });
    const audit = await app.send("GET", `${project}/audit?api-version=v1&limit=1`);
    expect([audit.status, (audit.body as { value: Body[] }).value.length]).toEqual([200, 1]);
    expect((await app.send("GET", `${project}/approvals?api-version=v1`)).status).toBe(200);
  });
});

test("an explicit call for a label that no tool has is told which tool to add", async () => {
  const call = { type: "mcp_call", status: "calling", id: "c1", server_label: "notes", name: "add" };
  const answer = await app.send("POST", `${project}/openai/v1/responses`, {
    body: { input: [{ ...call, arguments: "{}" }] },
  });
  expect([answer.status, errorOf(answer.body)["message"]]).toEqual([
    400,
    `input: the call c1 names server_label 'notes', which no tool has: add {"type":"mcp","server_label":"notes"} to tools`,
  ]);
});
