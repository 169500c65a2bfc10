import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestApp, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp();
});
afterAll(() => app.stop());

type Agent = {
  identity: string;
  instance_identity?: { principal_id: string; client_id: string };
  versions: { latest: { version: string } };
};
const base = "/api/projects/default/agents";
const definition = { kind: "prompt", model: "m" };
const post = (path: string, body: unknown) => app.send("POST", `${base}${path}`, { body });
const patch = (name: string, body: unknown) => app.send("PATCH", `${base}/${name}`, { body });
const agent = async (name: string) => (await app.send("GET", `${base}/${name}`)).body as Agent;
const make = async (name: string, identity?: string) => {
  const answer = await post("", { name, definition, ...(identity !== undefined && { identity }) });
  expect(answer.status).toBe(200);
  return answer.body as Agent;
};
const audit = async (name: string) => {
  const { body } = await app.send("GET", "/api/projects/default/audit?event=agent_changed&limit=100");
  const { value } = body as { value: { agent: string; detail: { identity?: string } }[] };
  return value.filter((row) => row.agent === name).map(({ detail }) => detail.identity);
};
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

describe("an agent's identity", () => {
  test("is the shared one unless it is said otherwise", async () => {
    expect(await make("plain")).not.toHaveProperty("instance_identity");
    expect((await agent("plain")).identity).toBe("shared");
    expect(await audit("plain")).toEqual([]);
  });

  test("of its own comes back with the ids that a server can give rights to", async () => {
    const made = await make("own", "own");
    expect(made).toMatchObject({
      identity: "own",
      instance_identity: {
        principal_id: expect.stringMatching(UUID),
        client_id: "project:default:agent:own",
      },
    });
    expect(await agent("own")).toEqual(made);
    const { body } = await app.send("GET", `${base}?limit=100`);
    expect((body as { data: unknown[] }).data).toContainEqual(made);
    expect(await audit("own")).toEqual(["own"]);
  });

  test("changes with an update, which adds a version only for something else", async () => {
    await make("updated");
    const once = await post("/updated", { definition, identity: "own" });
    expect(once.body).toMatchObject({ identity: "own", versions: { latest: { version: "1" } } });
    const both = await post("/updated", { definition: { ...definition, model: "n" }, identity: "shared" });
    expect(both.body).toMatchObject({ identity: "shared", versions: { latest: { version: "2" } } });
    expect(both.body).not.toHaveProperty("instance_identity");
    const silent = await post("/updated", { definition: { ...definition, model: "o" } });
    expect(silent.body).toMatchObject({ identity: "shared", versions: { latest: { version: "3" } } });
    // What changes nothing is no change.
    await post("/updated", { definition: { ...definition, model: "o" }, identity: "shared" });
    expect(await audit("updated")).toEqual(["shared", "own"]);
  });

  test("changes by a patch, and is the same again when it comes back", async () => {
    const { instance_identity: first } = await make("patched", "own");
    expect((await patch("patched", { identity: "shared" })).body).toMatchObject({ identity: "shared" });
    expect((await patch("patched", { agent_card: {} })).body).toMatchObject({ identity: "shared" });
    expect((await patch("patched", { identity: "own" })).body).toMatchObject({ instance_identity: first });
    expect(await audit("patched")).toEqual(["own", "shared", "own"]);
    expect((await patch("nobody", { identity: "own" })).status).toBe(404);
  });

  test("is the agent's, and no version's", async () => {
    const answer = await post("/own/versions", { definition, identity: "shared" });
    expect(answer.status).toBe(400);
    expect(answer.text).toContain("is the agent's, not a version's");
    await post("/own/versions", { definition: { ...definition, model: "x" } });
    expect(await agent("own")).toMatchObject({ identity: "own", versions: { latest: { version: "2" } } });
  });

  test("is another one after the agent was deleted and made again", async () => {
    const first = await make("again", "own");
    await app.send("DELETE", `${base}/again`);
    app.advance(1_000);
    const second = await make("again", "own");
    await app.send("DELETE", `${base}/again/versions/1`);
    app.advance(1_000);
    const third = await make("again", "own");
    const ids = [first, second, third].map((one) => one.instance_identity?.principal_id);
    expect(new Set(ids).size).toBe(3);
    expect(third.instance_identity?.client_id).toBe(first.instance_identity?.client_id);
  });

  test.each(["shared", "Shared"])("of its own is none for an agent named %s", async (name) => {
    const refused = await post("", { name, definition, identity: "own" });
    expect(refused.status).toBe(400);
    expect(refused.text).toContain("cannot have an identity of its own");
    expect((await app.send("GET", `${base}/${name}`)).status).toBe(404);
    await make(name);
    for (const answer of [
      await patch(name, { identity: "own" }),
      await post(`/${name}`, { definition, identity: "own" }),
    ]) {
      expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("identity")]);
    }
    expect((await agent(name)).identity).toBe("shared");
  });

  test("is one of two words", async () => {
    const answer = await post("", { name: "odd", definition, identity: "mine" });
    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("identity")]);
  });

  test("is an admin's to change", async () => {
    const { key } = await app.makeKey({ roles: ["runtime"] });
    const answer = await app.send("PATCH", `${base}/own`, { key, body: { identity: "shared" } });
    expect(answer.status).toBe(403);
  });

  test("is Entra's where the operator gave the agent one", async () => {
    const known = { issuer: "https://login.example/t/v2.0", subject: "o-1", clientId: "c-1", tenant: "t" };
    const none = { ok: false, transient: false, message: "not asked", claims: null } as const;
    const entra = {
      describe: async () => known,
      token: async () => none,
      onBehalfOf: async () => none,
      targetFault: () => null,
      isOurs: () => false,
    };
    app.world.entra = entra;
    expect((await agent("own")).instance_identity).toEqual({ principal_id: "o-1", client_id: "c-1" });
    app.world.entra = { ...entra, describe: async () => ({ ...known, subject: null }) };
    expect((await agent("own")).instance_identity).toBeUndefined();
    app.world.entra = null;
    expect((await agent("own")).instance_identity?.client_id).toBe("project:default:agent:own");
  });
});
