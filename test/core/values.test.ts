import { describe, expect, test } from "vitest";
import { outputText, parseArguments } from "../../src/core/calls.ts";
import { type Caller, namedUser } from "../../src/core/identity.ts";
import { canonicalJson, nestsDeeperThan } from "../../src/core/json.ts";
import { connectionNameIn } from "../../src/core/servers.ts";

describe("json", () => {
  test("one value has one canonical text", () => {
    expect(canonicalJson({ b: [1, { d: null, c: "x" }], a: true })).toBe(
      '{"a":true,"b":[1,{"c":"x","d":null}]}',
    );
    expect(canonicalJson({ a: true, b: [1, { c: "x", d: null }] })).toBe(
      canonicalJson({ b: [1, { d: null, c: "x" }], a: true }),
    );
  });
  test("depth is counted outside of strings only", () => {
    expect(nestsDeeperThan("[[[]]]", 2)).toBe(true);
    expect(nestsDeeperThan("[[[]]]", 3)).toBe(false);
    expect(nestsDeeperThan('["[[[[\\"[["]', 1)).toBe(false);
    expect(nestsDeeperThan("[".repeat(5_000_000), 100)).toBe(true);
  });
});

describe("arguments", () => {
  test("an object, or nothing for an empty text", () => {
    expect(parseArguments('{"a":1}')).toEqual({ a: 1 });
    expect(parseArguments("")).toEqual({});
    expect(parseArguments("[1]")).toBeNull();
    expect(parseArguments("{nope")).toBeNull();
    expect(parseArguments(`{"a":${"[".repeat(200)}${"]".repeat(200)}}`)).toBeNull();
  });
});

describe("the output of a call", () => {
  const text = (value: string) => ({ type: "text", text: value });
  test("text blocks are joined by newline", () => {
    expect(outputText({ content: [text("a"), text("b")], structuredContent: null, isError: false })).toBe(
      "a\nb",
    );
  });
  test("structured content that its text repeats is not said twice", () => {
    const structuredContent = { celsius: 21.5 };
    expect(outputText({ content: [text('{"celsius": 21.5}')], structuredContent, isError: false })).toBe(
      '{"celsius": 21.5}',
    );
  });
  test("structured content that the text does not say comes along", () => {
    const said = outputText({
      content: [text("warm")],
      structuredContent: { celsius: 21.5 },
      isError: false,
    });
    expect(JSON.parse(said)).toEqual({ content: [text("warm")], structuredContent: { celsius: 21.5 } });
  });
  test("anything but text comes as content", () => {
    const image = { type: "image", data: "AAAA", mimeType: "image/png" };
    expect(JSON.parse(outputText({ content: [image], structuredContent: null, isError: false }))).toEqual({
      content: [image],
    });
  });
});

describe("who a call is for", () => {
  const caller: Caller = {
    keyId: "key_1",
    principal: "key:x",
    name: "x",
    project: "p",
    roles: ["runtime"],
    rights: [],
  };
  const trusted: Caller = { ...caller, rights: ["act_for_users"] };
  const on = { fromBody: true };

  test("a header without the right is refused, a body field ignored", () => {
    expect(() => namedUser(caller, { header: "alice", body: null }, on)).toThrow("user_assertion_forbidden");
    expect(namedUser(caller, { header: null, body: "alice" }, on)).toBeNull();
  });
  test("with the right the name is in the realm app, whatever it looks like", () => {
    expect(namedUser(trusted, { header: "alice", body: null }, on)).toBe("app:alice");
    expect(namedUser(trusted, { header: "entra:t/o", body: null }, on)).toBe("app:entra:t/o");
    expect(namedUser(trusted, { header: null, body: "bob" }, on)).toBe("app:bob");
  });
  test("header and body must agree, unless the body does not count", () => {
    expect(() => namedUser(trusted, { header: "alice", body: "bob" }, on)).toThrow("user_conflict");
    expect(namedUser(trusted, { header: "alice", body: "bob" }, { fromBody: false })).toBe("app:alice");
  });
  test("unprintable names are refused", () => {
    expect(() => namedUser(trusted, { header: "ali\u202ece", body: null }, on)).toThrow("invalid");
    expect(() => namedUser(trusted, { header: "", body: null }, on)).toThrow("invalid");
  });
});

describe("connection references", () => {
  const arm = (project: string, name: string) =>
    `/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a/projects/${project}/connections/${name}`;
  test("a name, or an ARM id of this project", () => {
    expect(connectionNameIn("github", "p")).toBe("github");
    expect(connectionNameIn(arm("p", "github"), "p")).toBe("github");
  });
  test("an ARM id of another project, or no ARM id, is nothing", () => {
    expect(connectionNameIn(arm("other", "github"), "p")).toBeNull();
    expect(connectionNameIn("/etc/passwd", "p")).toBeNull();
  });
});
