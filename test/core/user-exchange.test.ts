import { afterAll, beforeAll, expect, test } from "vitest";
import { createUserExchange } from "../../src/core/user-exchange.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp();
});
afterAll(() => app.stop());

const entry = (issuer: string, clientSecret: string) => ({
  type: "oidc",
  name: "home",
  issuer,
  audiences: ["broker"],
  exchange: { clientId: "broker", clientSecret, tokenEndpoint: `${issuer}/token` },
});

async function settings(change: object): Promise<void> {
  const answer = await app.send("PATCH", "/api/projects/default/settings", { body: change });
  if (answer.status !== 200) throw new Error(answer.text);
}

async function asItIs() {
  const project = await app.world.store.projects.get("default");
  if (!project) throw new Error("there is no project");
  return project;
}

const user = { token: "a.b.c", issuer: "home", tenant: null, expiresAt: Date.now() + 60_000 };

test("what changes while a turn is under way changes where tokens are exchanged, but never mixes two issuers", async () => {
  const wayOf = createUserExchange(app.world);
  const { signal } = new AbortController();
  await settings({ issuers: [entry("http://127.0.0.1:4001", "the first one's")] });
  const begun = await asItIs();
  const found = { server: { tokenEndpoint: "http://127.0.0.1:4001/token" } };
  expect(await wayOf(begun, user, signal)).toMatchObject({
    ok: true,
    way: { ...found, client: { clientSecret: "the first one's" } },
  });

  // Something else, and a new secret of the same issuer: the turn goes on.
  await settings({
    consentEvent: true,
    issuers: [entry("http://127.0.0.1:4001", "the first one's next")],
  });
  expect(await wayOf(begun, user, signal)).toMatchObject({
    ok: true,
    way: { ...found, client: { clientSecret: "the first one's next" } },
  });

  // Another issuer under the name: the first one is not shown what is the other's, nor the other what is the first one's person's.
  await settings({ issuers: [entry("http://127.0.0.1:4002", "the other one's")] });
  const after = await wayOf(begun, user, signal);
  expect(after).toMatchObject({ ok: false });
  expect(JSON.stringify(after)).not.toContain("the other one's");
  await settings({ issuers: [] });
  expect(await wayOf(begun, user, signal)).toMatchObject({ ok: false });
});
