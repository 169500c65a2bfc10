import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSignInSecret } from "../../src/core/administration/settings.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";

type Body = Record<string, unknown>;

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp({ egressAllow: "loopback,*.example.com" });
});
afterAll(() => app.stop());

const SECRET = "s3cret-canary";
const path = "/api/projects/default/settings";
const signIn = { name: "acme", issuer: "https://login.example.com/t", clientId: "broker" };
const patch = (body: Body, at = path) => app.send("PATCH", at, { body });
const faultsOf = (body: unknown) => {
  const { error } = body as { error: { details?: { target: string; message: string }[] } };
  return (error.details ?? []).map(({ target }) => target);
};
const secret = (name = "default") => readSignInSecret(app.world, { name });

describe("the sign-in of a project", () => {
  test("keeps its client secret to itself, through every other change", async () => {
    const made = await patch({ signIn: { ...signIn, clientSecret: SECRET } });
    expect(made.status).toBe(200);
    expect((made.body as Body)["signIn"]).toEqual(signIn);
    expect(made.text).not.toContain(SECRET);
    await patch({ adhocServers: "deny" });
    await patch({ signIn: { ...signIn, name: "acme2" } });
    expect(await secret()).toBe(SECRET);
    const read = await app.send("GET", path);
    const audit = await app.send("GET", "/api/projects/default/audit?event=settings_changed");
    expect(read.text + audit.text + JSON.stringify(app.logs)).not.toContain(SECRET);
    const box = await app.world.store.projects.secrets("default");
    expect(Buffer.from(box?.sealed ?? []).includes(SECRET)).toBe(false);
  });

  test("does not take the secret to another issuer or client: it is given again, or given up", async () => {
    await patch({ signIn: { ...signIn, clientSecret: SECRET } });
    for (const other of [{ issuer: "https://evil.example.com" }, { clientId: "other" }]) {
      const answer = await patch({ signIn: { ...signIn, ...other } });
      expect(faultsOf(answer.body)).toEqual(["signIn.clientSecret"]);
    }
    const replaced = await app.send("PUT", path, { body: { signIn } });
    expect(faultsOf(replaced.body)).toEqual(["signIn.clientSecret"]);
    expect(
      (await patch({ signIn: { ...signIn, issuer: "https://other.example.com", clientSecret: null } }))
        .status,
    ).toBe(200);
    expect(await secret()).toBeNull();
    await patch({ signIn: { ...signIn, clientSecret: SECRET } });
    await patch({ signIn: null });
    expect(await secret()).toBeNull();
  });

  test("can come with the project", async () => {
    const body = { name: "born", settings: { signIn: { ...signIn, clientSecret: SECRET } } };
    const made = await app.send("POST", "/api/projects", { body });
    expect(made.status).toBe(201);
    expect(made.text).not.toContain(SECRET);
    expect(made.body).toMatchObject({ settings: { signIn } });
    expect(await secret("born")).toBe(SECRET);
  });

  test("changed by ten at once is sealed for the version that it ends at", async () => {
    await patch({ signIn: { ...signIn, clientSecret: SECRET } });
    const hosts = Array.from({ length: 10 }, (_, at) => `h${at}.example.com`);
    const answers = await Promise.all(hosts.map((host) => patch({ adhocServers: [host] })));
    expect(answers.map(({ status }) => status)).toEqual(hosts.map(() => 200));
    expect(await secret()).toBe(SECRET);
  });

  test.each([
    ["signIn.name", { signIn: { ...signIn, name: "app" } }],
    ["signIn.name", { signIn: { ...signIn, name: "entra" } }],
    ["signIn.name", { signIn: { ...signIn, name: "Acme" } }],
    ["signIn.issuer", { signIn: { ...signIn, issuer: "http://login.example.com" } }],
    ["signIn.issuer", { signIn: { ...signIn, issuer: "https://login.example.com/?a" } }],
    ["signIn.clientSecret", { signIn: { ...signIn, clientSecret: "" } }],
    ["signIn.secret", { signIn: { ...signIn, secret: "x" } }],
    [
      "users.assertedAs.claim",
      { signIn: { ...signIn, clientSecret: null }, users: { assertedAs: { issuer: "acme", claim: "upn" } } },
    ],
    [
      "users.assertedAs.issuer",
      { signIn: { ...signIn, clientSecret: null }, users: { assertedAs: { issuer: "x", claim: "sub" } } },
    ],
    ["users.assertedAs.issuer", { signIn: null, users: { assertedAs: { issuer: "acme", claim: "sub" } } }],
    ["consentProof", { consentProof: "trust" }],
    ["consent_status", { consent_status: "failed" }],
  ])("is refused for %s", async (param, body) => {
    const answer = await patch(body);
    expect([answer.status, faultsOf(answer.body)]).toEqual([400, expect.arrayContaining([param])]);
  });

  test("says why a claim that can pass to another person names nobody", async () => {
    const body = {
      signIn: { ...signIn, clientSecret: null },
      users: { assertedAs: { issuer: "acme", claim: "preferred_username" } },
    };
    expect((await patch(body)).text).toContain("can pass to another person");
  });

  test("names what callers assert, by its issuer or its name", async () => {
    for (const issuer of ["acme", signIn.issuer]) {
      const assertedAs = { issuer, claim: "email" };
      const answer = await patch({ signIn: { ...signIn, clientSecret: null }, users: { assertedAs } });
      expect(answer.body).toMatchObject({ users: { fromBody: true, assertedAs } });
    }
    expect(faultsOf((await patch({ signIn: null })).body)).toEqual(["users.assertedAs.issuer"]);
    await app.send("PUT", path, { body: {} });
  });
});

describe("how consent is asked for and proven", () => {
  test("is set under the wire's names, and under those beside them", async () => {
    const wire = await patch({ consent_presentation: "message", consent_status: "incomplete" });
    expect(wire.body).toMatchObject({ consent_presentation: "message", consent_status: "incomplete" });
    const beside = await patch({
      consentPresentation: "item",
      consentStatus: "completed",
      consentProof: "runtime",
    });
    expect(beside.body).toMatchObject({
      consent_presentation: "item",
      consent_status: "completed",
      consentProof: "runtime",
    });
  });

  test("by a sign-in only where there is one: in the same body, or before", async () => {
    await patch({ signIn: null });
    const alone = await patch({ consentProof: "sign-in" });
    expect([alone.status, faultsOf(alone.body)]).toEqual([400, ["consentProof"]]);
    expect(alone.text).toContain("set signIn");
    expect((await app.send("PUT", path, { body: { consentProof: "sign-in" } })).status).toBe(400);
    expect((await patch({ consentProof: "sign-in", signIn })).status).toBe(200);
    expect((await patch({ consentProof: null })).status).toBe(200);
    expect((await patch({ consentProof: "sign-in" })).status).toBe(200);
    await app.send("PUT", path, { body: {} });
  });

  test("by possession only where the operator allows it beyond loopback", async () => {
    expect((await patch({ consentProof: "possession" })).status).toBe(200);
    await app.makeProject("trusting");
    app.world.local = false;
    app.world.consent = { proof: null, allowPossession: ["trusting"] };
    const refused = await patch({ consentProof: "possession" });
    expect(faultsOf(refused.body)).toEqual(["consentProof"]);
    expect(refused.text).toContain("CONSENTRY_ALLOW_POSSESSION");
    const allowed = await patch({ consentProof: "possession" }, "/api/projects/trusting/settings");
    expect(allowed.status).toBe(200);
    expect((await patch({ adhocServers: "deny" })).status).toBe(200);
    app.world.local = true;
  });
});

describe("where a key sends people", () => {
  const keys = "/api/projects/default/keys";
  const make = (body: Body) => app.send("POST", keys, { body: { roles: ["runtime"], ...body } });
  const urls = { confirmUrl: "https://app.example.com/confirm?x=1", doneUrl: "http://localhost:3000/done" };

  test("is exactly what was given, in lists and for its successors", async () => {
    const made = await make({ name: "sender", ...urls });
    expect([made.status, made.body]).toEqual([201, expect.objectContaining(urls)]);
    const rotated = await app.send("POST", `${keys}/sender:rotate`, { body: { graceMs: 0 } });
    expect(rotated.body).toMatchObject(urls);
    const listed = (await app.send("GET", keys)).body as { value: Body[] };
    expect(listed.value.find(({ id }) => id === (rotated.body as Body)["id"])).toMatchObject(urls);
    const plain = await make({ name: "plain" });
    expect(plain.body).toMatchObject({ confirmUrl: null, doneUrl: null });
  });

  test.each([
    "javascript:alert(1)",
    "//app.example.com/x",
    "/done",
    "https://user@app.example.com/",
    "https://app.example.com/#x",
    "https://app.example.com\\@evil.example.com/",
    "http://app.example.com/done",
    "http://127.0.0.1.evil.example.com/",
    " https://app.example.com/",
    `https://app.example.com/${"a".repeat(3_000)}`,
  ])("A13: is not %j", async (url) => {
    const answer = await make({ name: "bad", confirmUrl: url, doneUrl: url });
    expect([answer.status, faultsOf(answer.body)]).toEqual([400, ["confirmUrl", "doneUrl"]]);
  });

  test("A13: is https off loopback", async () => {
    app.world.local = false;
    expect(faultsOf((await make({ name: "bad", doneUrl: "http://localhost:3000/" })).body)).toEqual([
      "doneUrl",
    ]);
    app.world.local = true;
  });
});
