import { describe, expect, test } from "vitest";
import { BrokerError, invalid, type Refusal, type Refusals } from "../../src/core/errors.ts";
import { answerProblem, type Surface, surfaceOf } from "../../src/http/problem-answer.ts";
import { problemOf } from "../../src/http/problems.ts";

type Body = { error: Record<string, unknown> };

async function answerOf<C extends Refusal>(code: C, details: Refusals[C], surface: Surface, method = "POST") {
  const problem = problemOf(new BrokerError(code, details), surface);
  if (!problem) throw new Error(`${code} is no problem`);
  const response = answerProblem(problem, { surface, method });
  const body = (await response.json()) as Body;
  return { status: response.status, headers: response.headers, ...body };
}

const cases: { [C in Refusal]: [Refusals[C], number] } = {
  unauthenticated: [{ reason: "expired" }, 401],
  forbidden: [{ needs: "role admin" }, 403],
  user_assertion_forbidden: [{}, 403],
  user_assertion_invalid: [{}, 400],
  user_conflict: [{ header: "ann", body: "bob" }, 400],
  user_invalid: [{ param: "x-ms-user-identity", why: "must be printable ASCII" }, 400],
  user_blocked: [{}, 403],
  claims_required: [{ claims: '{"access_token":{}}' }, 401],
  invalid: [{ faults: [{ param: "input", message: "is required" }] }, 400],
  too_large: [{ what: "body", limit: 4, unit: "MiB" }, 413],
  not_found: [{ what: "agent version", name: "a:1" }, 404],
  name_taken: [{ what: "key", name: "ci" }, 409],
  changed_meanwhile: [{ what: "tool", name: "echo" }, 409],
  not_supported: [{ what: "authType AgenticUser", param: "properties.authType" }, 400],
  previous_response_not_found: [{ id: "resp_1" }, 400],
  response_not_found: [{ id: "resp_1" }, 404],
  conversation_not_found: [{ id: "conv_1", param: "conversation" }, 400],
  no_model: [{}, 400],
  idempotency: [{ reason: "other_body" }, 400],
  too_many_background: [{ ofProject: 100, ofCaller: 50 }, 429],
  too_many_followers: [{ limit: 128 }, 429],
  still_running: [{ id: "resp_1" }, 409],
  revoked: [{ why: "the user was blocked" }, 403],
  approval_not_found: [{ id: "mcpr_1" }, 400],
  approval_expired: [{ id: "mcpr_1" }, 400],
  approval_cancelled: [{ id: "mcpr_1" }, 400],
  approval_contradicted: [{ id: "mcpr_1", recorded: "deny" }, 400],
  approval_needs_role: [{ id: "mcpr_1" }, 403],
  consent_refused: [{}, 403],
  target_refused: [{ url: "https://10.0.0.1", why: "private" }, 400],
  model_failed: [{ status: 500, message: "down", code: null }, 502],
  unavailable: [{ what: "database" }, 503],
};

describe.each(Object.keys(cases) as Refusal[])("the refusal %s", (code) => {
  const [details, status] = cases[code];

  test("is what both kinds of clients read", async () => {
    const openai = await answerOf(code, details, "openai");
    expect(openai.status).toBe(status);
    expect(Object.keys(openai.error)).toEqual(["message", "type", "param", "code"]);
    expect(openai.error["type"]).toEqual(expect.any(String));
    const foundry = await answerOf(code, details, "foundry");
    expect(foundry.error).toMatchObject({ code: expect.any(String), message: expect.stringMatching(/\S/) });
    for (const { error } of [openai, foundry])
      expect(String(error["message"])).not.toMatch(/undefined|\[object/);
  });

  test("keeps clients from repeating what was no mere reading", async () => {
    // What was turned away for being too much did nothing.
    const expected = status === 429 ? null : "false";
    expect((await answerOf(code, details, "openai")).headers.get("x-should-retry")).toBe(expected);
    expect((await answerOf(code, details, "openai", "GET")).headers.get("x-should-retry")).toBeNull();
  });
});

test("why a caller is not known is nobody's business", async () => {
  const texts = await Promise.all(
    (["missing", "invalid", "expired"] as const).map(async (reason) =>
      JSON.stringify((await answerOf("unauthenticated", { reason }, "openai")).error),
    ),
  );
  expect(new Set(texts).size).toBe(1);
});

test("an unknown approval is 400 in a body and 404 on a path", async () => {
  expect((await answerOf("approval_not_found", { id: "x" }, "openai")).status).toBe(400);
  expect((await answerOf("approval_not_found", { id: "x" }, "foundry")).status).toBe(404);
});

test("every fault is named, the first as param", () => {
  const problem = problemOf(
    invalid({ param: "tools[0].server_label", message: "is required" }, { param: "", message: "No." }),
    "openai",
  );
  expect(problem).toMatchObject({
    param: "tools[0].server_label",
    message: "tools[0].server_label: is required; No.",
  });
});

test.each([
  [null, 502],
  [500, 502],
  [401, 502],
  [403, 502],
  [400, 400],
  [404, 400],
  [422, 400],
  [429, 429],
])("a model's %s is our %i", async (upstream, status) => {
  const answer = await answerOf("model_failed", { status: upstream, message: "x", code: null }, "openai");
  expect(answer.status).toBe(status);
});

test("what is no refusal is a bug and is not explained", () => {
  expect(problemOf(new Error("secret"), "openai")).toBeNull();
});

test.each([
  ["/v1/responses", "openai"],
  ["/api/projects/p/openai/v1/responses", "openai"],
  ["/api/projects/p/agents/a/endpoint/protocols/openai/responses", "openai"],
  ["/api/projects/p/connections/openai/tools", "foundry"],
  ["/api/projects/openai/connections", "foundry"],
  ["/v1x", "foundry"],
  ["/openapi.json", "foundry"],
])("%s speaks %s", (path, surface) => {
  expect(surfaceOf(path)).toBe(surface);
});
