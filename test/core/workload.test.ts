import { expect, test } from "vitest";
import { hasSharedName, identityOf, objectIdOf, subjectOf } from "../../src/core/workload.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { createWebCrypto } from "../../src/secrets/crypto.web.ts";

const project = { name: "p" };
const own = { kind: "agent", project: "p", agent: "helper" } as const;
const shared = { kind: "agent", project: "p", agent: null } as const;

test("an agent acts as itself only if it is stored so; whatever else acts, acts as what agents share", () => {
  expect(identityOf("agent", { project, agent: "helper", agentIdentity: "own" })).toEqual(own);
  expect(identityOf("agent", { project, agent: "helper", agentIdentity: "shared" })).toEqual(shared);
  expect(identityOf("agent", { project, agent: "helper", agentIdentity: null })).toEqual(shared);
  expect(identityOf("agent", { project, agent: "helper" })).toEqual(shared);
  expect(identityOf("agent", { project, agent: null, agentIdentity: "own" })).toEqual(shared);
  expect(identityOf("agent", { project })).toEqual(shared);
});

test("the project's identity is the project's, whoever acts", () => {
  const identity = { kind: "project", project: "p" };
  expect(identityOf("project", { project, agent: "helper", agentIdentity: "own" })).toEqual(identity);
  expect(identityOf("project", { project })).toEqual(identity);
});

test("subjects name the project and the agent, or that it is shared", () => {
  expect(subjectOf({ kind: "project", project: "p" })).toBe("project:p");
  expect(subjectOf(own)).toBe("project:p:agent:helper");
  expect(subjectOf(shared)).toBe("project:p:agent:shared");
});

test.each(["shared", "Shared", "SHARED"])("an agent named %s would be taken for all of them", (name) => {
  expect(hasSharedName(name)).toBe(true);
  expect(hasSharedName(`${name}-1`)).toBe(false);
});

test.each([
  ["node:crypto", createNodeCrypto()],
  ["Web Crypto", createWebCrypto()],
])("object ids are UUIDs, stable, and of one creation each, by %s", async (_, suite) => {
  const made = { project: 1_000, agent: 2_000 };
  const id = await objectIdOf(suite, own, made);
  expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(await objectIdOf(suite, own, made)).toBe(id);
  const others = await Promise.all([
    objectIdOf(suite, own, { ...made, agent: 2_001 }),
    objectIdOf(suite, own, { ...made, project: 1_001 }),
    objectIdOf(suite, { ...own, agent: "other" }, made),
    objectIdOf(suite, { ...own, project: "q" }, made),
    objectIdOf(suite, shared, { project: 1_000, agent: null }),
    objectIdOf(suite, { kind: "project", project: "p" }, { project: 1_000, agent: null }),
  ]);
  expect(new Set([id, ...others]).size).toBe(7);
});
