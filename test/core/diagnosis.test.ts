import { describe, expect, test } from "vitest";
import type { Connection, HeaderValues } from "../../src/core/connection.ts";
import { diagnose, type SeenTool } from "../../src/core/diagnosis.ts";
import type { UpstreamFailure } from "../../src/core/ports.ts";

const connection: Connection = {
  project: "p",
  name: "github",
  id: "conn_1",
  redirectId: null,
  target: "https://mcp.example.com/mcp",
  auth: { kind: "key", headerNames: ["Authorization"] },
  requireApproval: null,
  allowedTools: null,
  approvers: "caller",
  trustAnnotations: true,
  timeoutMs: 60_000,
  metadata: {},
  isDefault: false,
  version: 1,
  generation: 1,
  createdAt: 0,
  updatedAt: 0,
};
const bearer: HeaderValues = { Authorization: "Bearer s3cret" };
const read: SeenTool = { name: "read", readOnly: true, changed: false };
const write: SeenTool = { name: "write", readOnly: false, changed: false };

function ofFailure(failure: UpstreamFailure, headers = bearer, about: Partial<Connection> = {}) {
  const seen = { ok: false as const, failure };
  return diagnose({ ...connection, ...about }, { headers, seen, hasApprover: true });
}

function ofTools(tools: SeenTool[], about: Partial<Connection> = {}, hasApprover = true) {
  return diagnose({ ...connection, ...about }, { headers: bearer, seen: { ok: true, tools }, hasApprover });
}

const http = (status: number): UpstreamFailure => ({
  kind: "http",
  status,
  message: "said so",
  challenge: null,
});

describe("a listing that failed", () => {
  test.each([
    [http(401), "key_rejected", /wrong, expired or revoked/],
    [http(403), "forbidden", /scopes or permissions/],
    [http(404), "not_mcp", /Streamable HTTP endpoint/],
    [http(405), "not_mcp", /Streamable HTTP endpoint/],
    [http(429), "busy", /minute/],
    [http(503), "server_error", /at the server/],
    [{ kind: "not_mcp", message: "HTML" }, "not_mcp", /not a web page/],
    [{ kind: "unreachable", reason: "dns", message: "no such name" }, "unreachable", /spelling/],
    [{ kind: "unreachable", reason: "connect", message: "refused" }, "unreachable", /port/],
    [{ kind: "unreachable", reason: "tls", message: "expired" }, "tls", /certificate/],
    [{ kind: "unreachable", reason: "closed", message: "reset" }, "unreachable", /proxy/],
    [{ kind: "timeout", message: "after 60 s" }, "timeout", /timeoutMs/],
    [{ kind: "refused", message: "private" }, "egress_refused", /CONSENTRY_EGRESS_ALLOW/],
    [{ kind: "too_large", message: "16 MiB" }, "too_large", /Fewer|fewer/],
    [{ kind: "protocol", code: -32603, message: "boom" }, "protocol_error", /itself/],
  ] as [UpstreamFailure, string, RegExp][])("%j is named", (failure, cause, hint) => {
    const diagnosis = ofFailure(failure);
    expect(diagnosis).toMatchObject({ ok: false, cause, toolCount: null });
    expect(diagnosis.hints.join(" ")).toMatch(hint);
  });

  test("for want of credentials says which auth to use", () => {
    expect(ofFailure(http(401), {}, { auth: { kind: "none" } })).toMatchObject({
      cause: "key_missing",
      hints: [expect.stringContaining("CustomKeys")],
    });
  });

  test("by a server that names its metadata says to use OAuth, first of all", () => {
    const challenge = {
      error: null,
      scope: null,
      resourceMetadata: "https://mcp.example.com/prm",
      claims: null,
    };
    const failure: UpstreamFailure = { kind: "http", status: 401, message: "said so", challenge };
    const oauth = "This server asks for OAuth: use authType OAuth2, nothing else is needed.";
    const none = ofFailure(failure, {}, { auth: { kind: "none" } });
    expect([none.cause, none.hints]).toEqual(["key_missing", [oauth, expect.stringContaining("CustomKeys")]]);
    const wrongKey = ofFailure(failure);
    expect([wrongKey.cause, wrongKey.hints[0]]).toEqual(["key_rejected", oauth]);
    expect(ofFailure(failure, { Authorization: "ghp_token" }).hints).toEqual([
      expect.stringContaining('most servers want "Bearer "'),
      oauth,
    ]);
    const silent = { ...challenge, resourceMetadata: null, claims: null };
    expect(ofFailure({ ...failure, challenge: silent }).hints).not.toContain(oauth);
  });

  test.each([
    [{ Authorization: "ghp_token" }, 'most servers want "Bearer "'],
    [{ Authorization: "Bearer Bearer ghp_token" }, "two schemes"],
    [{ "X-Api-Key": "Bearer ghp_token" }, "belongs into Authorization"],
    [{ "X-Api-Key": "env:GITHUB_TOKEN" }, "place where a secret is kept"],
    [{ Authorization: "Bearer <token>" }, "placeholder"],
    [{ "X-Api-Key": "${API_KEY}" }, "placeholder"],
    [{ Authorization: 'Bearer "ghp_token"' }, "placeholder"],
  ])("for the form of %j names the slip", (headers, hint) => {
    for (const status of [400, 401, 403]) {
      const diagnosis = ofFailure(http(status), headers as HeaderValues);
      expect(diagnosis.cause).toBe("key_format");
      expect(diagnosis.hints.join(" ")).toContain(hint);
    }
    expect(ofFailure(http(500), headers as HeaderValues).cause).toBe("server_error");
  });

  test("never repeats a value", () => {
    for (const value of ["s3cret", "Bearer Bearer s3cret", "<s3cret>", "Bearer s3cret"]) {
      for (const status of [400, 401, 403, 404, 500]) {
        const text = JSON.stringify(ofFailure(http(status), { Authorization: value }));
        expect(text).not.toContain("s3cret");
      }
    }
  });
});

describe("a listing that worked", () => {
  test("is fine, and says that requests decide about approval", () => {
    expect(ofTools([read, write])).toMatchObject({
      ok: true,
      cause: "none",
      toolCount: 2,
      message: "The server listed 2 tools.",
      notes: [expect.stringContaining("each request's own require_approval decides")],
    });
  });

  test("of nothing is worth a hint", () => {
    expect(ofTools([])).toMatchObject({ ok: true, cause: "no_tools", toolCount: 0 });
  });

  test("whose tools are all hidden does not work, and names them", () => {
    const diagnosis = ofTools([read, write], { allowedTools: { toolNames: ["raed"] } });
    expect(diagnosis).toMatchObject({ ok: false, cause: "all_hidden" });
    expect(diagnosis.hints.join()).toContain("read, write");
    expect(diagnosis.notes.join(" ")).toContain("not listed by the server: raed");
  });

  test("says which calls will wait", () => {
    const { notes } = ofTools([read, write], { requireApproval: { never: { readOnly: true } } });
    expect(notes).toEqual([
      expect.stringContaining("left out, it is always"),
      "Calls wait for approval: write.",
    ]);
    expect(ofTools([write], { requireApproval: "always" }).notes).toEqual([
      "Calls wait for approval: write.",
    ]);
  });

  test("says which definitions changed", () => {
    const { notes } = ofTools([{ ...read, changed: true }], { requireApproval: "never" });
    expect(notes.join(" ")).toMatch(/Changed since they were accepted.*read/);
  });

  test("does not work where every call waits for an approver and there is none", () => {
    const blocked = { approvers: "role", requireApproval: "always" } as const;
    expect(ofTools([read], blocked, false)).toMatchObject({ ok: false, cause: "no_approver" });
    expect(ofTools([read], blocked, true)).toMatchObject({ ok: true });
    expect(ofTools([read], { ...blocked, requireApproval: "never" }, false)).toMatchObject({ ok: true });
  });

  test("says who decides where it is not the caller, and that nobody can", () => {
    const byRole = { approvers: "role", requireApproval: null } as const;
    expect(ofTools([read], byRole, true).notes.join(" ")).toMatch(/role approver, and not by the caller/);
    expect(ofTools([read], byRole, false).notes.join(" ")).toMatch(
      /which nobody has: they wait until they expire/,
    );
    expect(ofTools([read]).notes.join(" ")).not.toContain("role approver");
  });
});
