import { describe, expect, test } from "vitest";
import type { Connection } from "../../src/core/connection.ts";
import { type ConnectionDraft, isElsewhere, readConnection } from "../../src/core/connection-rules.ts";
import { PROVIDERS } from "../../src/core/oauth-app-rules.ts";
import { PROVIDERS as QUIRKS } from "../../src/upstream/oauth-quirks.ts";
import { BrokerError, isRefusal } from "../../src/core/errors.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";

const key: ConnectionDraft = {
  authType: "CustomKeys",
  target: "https://mcp.example.com/mcp?tenant=1",
  keys: { Authorization: "Bearer abc" },
};

function readNew(draft: ConnectionDraft, name = "github") {
  return readConnection(draft, {
    name,
    before: null,
    mode: "replace",
    found: null,
    settings: DEFAULT_SETTINGS,
    checkAudience: () => null,
    checkTarget: (url) => (url.includes("10.0.0.1") ? "10.0.0.1 is private. Add it to SETTING." : null),
    checkReference: (ref) => (ref.startsWith("env:OUR_") ? null : "is not lent"),
    at: "properties",
  });
}

function stored(draft: ConnectionDraft): Connection {
  return {
    ...readNew(draft).content,
    project: "p",
    name: "github",
    id: "conn_1",
    redirectId: null,
    version: 3,
    generation: 1,
    createdAt: 1,
    updatedAt: 1,
  };
}

function change(existing: Connection, draft: ConnectionDraft) {
  const checkTarget = () => "refused now";
  return readConnection(draft, {
    name: existing.name,
    before: existing,
    mode: "change",
    found: null,
    settings: DEFAULT_SETTINGS,
    checkTarget,
    checkAudience: () => null,
    checkReference: () => "is not lent now",
    at: "properties",
  });
}

function faultsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (isRefusal(error, "invalid")) return error.details.faults.map((fault) => fault.param);
    throw error;
  }
  return [];
}

describe("a new connection", () => {
  test("keeps target and values as they were given, and gets the defaults", () => {
    const { content, secrets } = readNew(key);
    expect(content).toEqual({
      target: "https://mcp.example.com/mcp?tenant=1",
      auth: { kind: "key", headerNames: ["Authorization"] },
      requireApproval: null,
      allowedTools: null,
      approvers: "caller",
      trustAnnotations: true,
      timeoutMs: 60_000,
      metadata: {},
      isDefault: false,
    });
    expect(secrets).toEqual({ kind: "headers", headers: { Authorization: "Bearer abc" } });
  });

  test("takes the project's approval rule unless it says its own, null included", () => {
    const settings = { ...DEFAULT_SETTINGS, defaultRequireApproval: "always" as const };
    const fresh = { before: null, mode: "replace", found: null } as const;
    const checks = { checkTarget: () => null, checkAudience: () => null, checkReference: () => null };
    const context = { name: "github", ...fresh, settings, ...checks, at: "properties" };
    expect(readConnection(key, context).content.requireApproval).toBe("always");
    expect(readConnection({ ...key, requireApproval: null }, context).content.requireApproval).toBeNull();
    expect(readConnection({ ...key, requireApproval: "never" }, context).content.requireApproval).toBe(
      "never",
    );
  });

  test("names a value that is kept elsewhere where everybody may see it, and judges the rest of it", () => {
    const keys = { Authorization: { ref: "env:OUR_KEY", prefix: "Bearer " }, "X-Team": "web" };
    const { content, secrets } = readNew({ ...key, keys });
    expect(content.auth).toEqual({
      kind: "key",
      headerNames: ["Authorization", "X-Team"],
      references: { Authorization: "env:OUR_KEY" },
    });
    expect(secrets).toEqual({ kind: "headers", headers: keys });
    const wrong = {
      Host: { ref: "env:OUR_KEY", prefix: "" },
      "X-Key": { ref: "env:THEIRS", prefix: "line\nbreak" },
    };
    expect(faultsOf(() => readNew({ ...key, keys: wrong }))).toEqual([
      "properties.credentials.keys.Host",
      "properties.credentials.keys.X-Key",
      "properties.credentials.keys.X-Key.ref",
    ]);
  });

  test("is the same place whether a value is here or elsewhere", () => {
    const here = stored(key);
    const keys = { Authorization: { ref: "env:OUR_KEY", prefix: "Bearer " } };
    expect(isElsewhere(here, readNew({ ...key, keys }).content)).toBe(false);
  });

  test("hears of every fault at once", () => {
    const draft = {
      category: "RemoteA2A",
      authType: "CustomKeys",
      target: "ftp://x",
      keys: { Host: "a", "bad name": "b", ok: "line\nbreak" },
      timeoutMs: 99,
    };
    expect(faultsOf(() => readNew(draft, "a"))).toEqual([
      "name",
      "properties.category",
      "properties.target",
      "properties.credentials.keys.Host",
      "properties.credentials.keys.bad name",
      "properties.credentials.keys.ok",
      "properties.timeoutMs",
    ]);
  });

  test.each([
    ["", "name"],
    ["ab", "name"],
    ["-abc", "name"],
    ["a".repeat(34), "name"],
    ["a/b", "name"],
    ["a:b", "name"],
    ["été", "name"],
  ])("may not be called %j", (name, param) => {
    expect(faultsOf(() => readNew(key, name))).toEqual([param]);
  });

  test.each([
    "mcp.example.com",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "https:/mcp.example.com",
    "https://",
    "https://user:pass@mcp.example.com/",
    "https://user@mcp.example.com/",
    "https://mcp.example.com/#part",
    "https://mcp.example.com/#",
    " https://mcp.example.com/",
    "https://mcp.example.com/\r\nx",
    "http://10.0.0.1/mcp",
    `https://mcp.example.com/${"a".repeat(3_000)}`,
  ])("may not point to %j", (target) => {
    expect(faultsOf(() => readNew({ ...key, target }))).toEqual(["properties.target"]);
  });

  test("hears from egress what to set", () => {
    const faults = [{ param: "properties.target", message: expect.stringContaining("SETTING") }];
    expect(() => readNew({ ...key, target: "http://10.0.0.1/mcp" })).toThrow(
      expect.objectContaining({ details: { faults } }) as BrokerError,
    );
  });

  test.each(["AgenticUser", "DeveloperConnection", "UserTokenAndProjectManagedIdentity"])(
    "of kind %s is for a later version, and says so",
    (authType) => {
      expect(() => readNew({ ...key, authType })).toThrow(
        expect.objectContaining({
          code: "not_supported",
          details: { what: `authType ${authType}`, param: "properties.authType" },
        }) as BrokerError,
      );
    },
  );

  test.each([undefined, "ApiKey", "AAD", "ManagedIdentity", "nonsense"])(
    "may not be of kind %s",
    (authType) => {
      expect(faultsOf(() => readNew({ target: "https://a.example", authType }))).toEqual([
        "properties.authType",
      ]);
    },
  );

  test.each([undefined, null, {}])("of kind CustomKeys needs keys, %j is none", (keys) => {
    expect(faultsOf(() => readNew({ ...key, keys }))).toEqual(["properties.credentials.keys"]);
  });

  test("of kind None takes no keys", () => {
    expect(faultsOf(() => readNew({ ...key, authType: "None" }))).toEqual(["properties.credentials"]);
    expect(readNew({ authType: "None", target: "https://a.example", keys: {} }).content.auth).toEqual({
      kind: "none",
    });
  });
});

describe("credential headers", () => {
  const names = [
    "connection",
    "Keep-Alive",
    "proxy-authorization",
    "Proxy-Connection",
    "TE",
    "trailer",
    "Transfer-Encoding",
    "upgrade",
    "HOST",
    "content-length",
    "Content-Type",
    "content-encoding",
    "accept",
    "Accept-Encoding",
    "expect",
    "Mcp-Session-Id",
    "mcp-protocol-version",
    "x-forwarded-for",
    "Forwarded",
    "via",
    "last-event-id",
    "__proto__",
    "x y",
    "x:y",
    "",
    "x\r\ny",
    "é",
    "a".repeat(200),
  ];
  test.each(names)("may not be called %j", (name) => {
    const keys = Object.fromEntries([[name, "v"]]);
    expect(faultsOf(() => readNew({ ...key, keys }))).toHaveLength(1);
  });

  test.each(["Authorization", "X-Api-Key", "cookie", "api_key", "x!#$%&'*+-.^_`|~1"])(
    "may be called %j",
    (name) => {
      expect(faultsOf(() => readNew({ ...key, keys: { [name]: "v" } }))).toEqual([]);
    },
  );

  test.each([
    "",
    " a",
    "a ",
    "a\tb\t",
    "a\nb",
    "a\rb",
    "a\0b",
    "a\x01b",
    "\u00e9",
    "\ud83d\ude00",
    "a".repeat(20_000),
  ])("may not have the value %j", (value) => {
    expect(faultsOf(() => readNew({ ...key, keys: { "X-Key": value } }))).toEqual([
      "properties.credentials.keys.X-Key",
    ]);
  });

  test("may not be given twice in different case", () => {
    expect(faultsOf(() => readNew({ ...key, keys: { "X-Key": "a", "x-key": "b" } }))).toEqual([
      "properties.credentials.keys.x-key",
    ]);
  });

  test("may be many, but not that many", () => {
    const many = Object.fromEntries(Array.from({ length: 33 }, (_, at) => [`x-${at}`, "v"]));
    expect(faultsOf(() => readNew({ ...key, keys: many }))).toEqual(["properties.credentials.keys"]);
  });
});

describe("a change", () => {
  test("keeps what it does not say, secrets included, and does not judge the old target again", () => {
    const before = stored({ ...key, requireApproval: "never", isDefault: true });
    const { content, secrets } = change(before, { timeoutMs: 100 });
    expect(secrets).toEqual({ kind: "keep" });
    expect(content).toMatchObject({
      target: key.target,
      requireApproval: "never",
      isDefault: true,
      timeoutMs: 100,
    });
    expect(isElsewhere(before, content)).toBe(false);
  });

  test("on another origin needs the secrets again: an admin may not have them sent elsewhere", () => {
    const moved = (draft: ConnectionDraft) => faultsOf(() => change(stored(key), draft));
    expect(moved({ target: "https://evil.example/mcp" })).toContain("properties.credentials");
    expect(moved({ target: `${key.target}&page=2` })).not.toContain("properties.credentials");
  });

  test("judges a new target", () => {
    expect(faultsOf(() => change(stored(key), { target: "https://mcp.example.com/b" }))).toEqual([
      "properties.target",
    ]);
  });

  test("of secret values alone is the same place; of header names, kind or target it is another", () => {
    const before = stored(key);
    const elsewhere = (draft: ConnectionDraft) => isElsewhere(before, change(before, draft).content);
    expect(elsewhere({ keys: { authorization: "Bearer new" } })).toBe(false);
    expect(elsewhere({ keys: { "X-Key": "Bearer new" } })).toBe(true);
    expect(elsewhere({ authType: "None" })).toBe(true);
    const moved = readNew({ ...key, target: "https://other.example" }).content;
    expect(isElsewhere(before, moved)).toBe(true);
  });

  test("may send back the null that it read instead of secrets", () => {
    expect(change(stored(key), { keys: null }).secrets).toEqual({ kind: "keep" });
    expect(faultsOf(() => change(stored(key), { keys: {} }))).toEqual(["properties.credentials.keys"]);
  });

  test("to CustomKeys needs keys", () => {
    const open = stored({ authType: "None", target: "https://a.example" });
    expect(faultsOf(() => change(open, { authType: "CustomKeys" }))).toEqual(["properties.credentials.keys"]);
  });
});

test("a provider may be named if, and only if, the table has its ways", () => {
  expect(PROVIDERS.toSorted()).toEqual(Object.keys(QUIRKS).toSorted());
});
