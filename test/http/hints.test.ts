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

/** What is said of each field, by its name. */
const said = (body: unknown) =>
  Object.fromEntries((errorOf(body).details ?? []).map(({ target, message }) => [target, message]));

describe("credentials of a connection", () => {
  test.each([
    ["client_id", "is not known here; did you mean clientId?"],
    ["client_secret", "is not known here; did you mean clientSecret?"],
    ["private_key", "is not known here; did you mean privateKey?"],
    ["Keys", "is not known here; did you mean keys?"],
    ["tokenUrl", "belongs beside credentials, not into them"],
    ["scopes", "belongs beside credentials, not into them"],
  ])("with %s are told what is wrong with it", async (name, message) => {
    for (const method of ["PUT", "PATCH"]) {
      const body = { properties: { ...open, credentials: { [name]: "x" } } };
      const answer = await app.send(method, `${project}/connections/near`, { body });
      expect([answer.status, said(answer.body)]).toEqual([
        400,
        { [`properties.credentials.${name}`]: message },
      ]);
    }
  });

  test.each(["clientSecret", "privateKey"])("are where %s belongs, not beside them", async (name) => {
    const body = { properties: { ...open, [name]: "s3cret-canary" } };
    const answer = await app.send("PUT", `${project}/connections/near`, { body });
    expect(said(answer.body)).toEqual({ [`properties.${name}`]: "belongs into credentials" });
    expect(answer.text).not.toContain("s3cret-canary");
  });

  test("may hold what other makers' clients send, and what an answer shows", async () => {
    for (const credentials of [{ type: "None" }, { username: "x", authUrl: "https://a.example.com" }]) {
      const body = { properties: { ...open, credentials } };
      expect((await app.send("PUT", `${project}/connections/near`, { body })).status).toBe(200);
    }
  });
});

describe("a key", () => {
  const make = (body: Body) =>
    app.send("POST", `${project}/keys`, { body: { name: "near", roles: ["runtime"], ...body } });

  test("is not made with a field that nobody knows, and each is told what was meant", async () => {
    const answer = await make({ confirm_url: "x", done_url: "x", act_for_users: true, colour: "red" });
    expect([answer.status, said(answer.body)]).toEqual([
      400,
      {
        confirm_url: "is not known here; did you mean confirmUrl?",
        done_url: "is not known here; did you mean doneUrl?",
        act_for_users: 'is not known here; did you mean "rights": ["act_for_users"]?',
        colour: "is not known here",
      },
    ]);
    const { body } = await app.send("GET", `${project}/keys`);
    expect(JSON.stringify(body)).not.toContain('"near"');
  });

  test("has a successor that takes nothing but graceMs, and says where its URLs come from", async () => {
    await make({ name: "turning" });
    const answer = await app.send("POST", `${project}/keys/turning:rotate`, {
      body: { grace_ms: 0, confirmUrl: "https://app.example.com/", done_url: "x" },
    });
    const inherited = expect.stringContaining("a successor has what its predecessor has, URLs included");
    expect([answer.status, said(answer.body)]).toEqual([
      400,
      {
        grace_ms: "is not known here; did you mean graceMs?",
        confirmUrl: inherited,
        done_url: inherited,
      },
    ]);
  });
});

describe("settings", () => {
  test.each([
    ["users.assertedAs", 'did you mean {"users": {"assertedAs": …}}?'],
    ["approvals.expireAfterMs", 'did you mean {"approvals": {"expireAfterMs": …}}?'],
    ["consent_proof", "did you mean consentProof?"],
    ["sign_in", "did you mean signIn?"],
  ])("named %s are told how they are written", async (name, advice) => {
    for (const [method, path, body] of [
      ["PATCH", `${project}/settings`, { [name]: null }],
      ["PUT", `${project}/settings`, { [name]: null }],
      ["POST", "/api/projects", { name: "near", settings: { [name]: null } }],
    ] as const) {
      const answer = await app.send(method, path, { body });
      const param = method === "POST" ? `settings.${name}` : name;
      expect([answer.status, said(answer.body)]).toEqual([400, { [param]: `is not known here; ${advice}` }]);
    }
  });

  test("inside others are told alike", async () => {
    const signIn = { name: "acme", issuer: "https://login.example.com", client_id: "x" };
    const answer = await app.send("PATCH", `${project}/settings`, {
      body: { signIn, users: { asserted_as: null } },
    });
    expect(said(answer.body)).toEqual({
      "signIn.clientId": "is required",
      "signIn.client_id": "is not known here; did you mean clientId?",
      "users.asserted_as": "is not known here; did you mean assertedAs?",
    });
  });
});

test.each(["properties", "credentials"])("a connector in %s is told that the body is flat", async (name) => {
  const answer = await app.send("PUT", "/api/connectors/near", { body: { [name]: { clientId: "x" } } });
  expect(said(answer.body)).toMatchObject({
    [name]: `is not known here; the body is flat: give its fields without \`${name}\``,
  });
});

describe("a body of fields that is not there at all", () => {
  test.each([
    ["me-links", { user: "is required, unless the request comes with the user's own token" }],
    ["consents:confirm", { code: "is required", user: "is required" }],
  ])("of %s is told which fields must be", async (path, fields) => {
    const answer = await app.send("POST", `${project}/${path}`, {});
    expect([answer.status, said(answer.body)]).toEqual([400, fields]);
  });
});

describe("a user's name with its realm", () => {
  const message = "must be the name without its realm: ann, not app:ann";

  test("is refused in what a runtime says of a person", async () => {
    for (const path of ["me-links", "consents:confirm"]) {
      const answer = await app.send("POST", `${project}/${path}`, { body: { code: "x", user: "app:ann" } });
      expect([answer.status, said(answer.body)]).toEqual([400, { user: message }]);
    }
  });

  test("is what other people's names may look like", async () => {
    const headers = { "x-ms-user-identity": "team:ann" };
    const answer = await app.send("POST", `${project}/connections/near:validate`, { headers });
    expect(answer.status).toBe(200);
  });
});
