import { afterAll, beforeAll, expect, test } from "vitest";
import { blocksOf, blockThatBegins, type DocumentProcess, runFiles } from "../helpers/documents.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let issuer: DocumentProcess;
let settings: { issuers: Record<string, unknown>[] };

beforeAll(async () => {
  const blocks = await blocksOf("http-api.md");
  world = await createWorld();
  issuer = await runFiles({ "issuer.mjs": blockThatBegins(blocks, "// issuer.mjs") });
  const patch = blocks.find(({ code }) => code.includes('"issuers": ['))?.code ?? "";
  settings = JSON.parse(/-d '([\s\S]*?)'\n/.exec(patch)?.[1] ?? "null");
});
afterAll(async () => {
  await issuer.stop();
  await world.stop();
});

test("the issuers that the document writes are accepted, and the one to try is believed", async () => {
  const path = "/api/projects/default/settings";
  expect((await world.rest("PATCH", path, settings)).status).toBe(200);
  const [, acme = {}] = settings.issuers;
  const here = { ...acme, issuer: `http://127.0.0.1:${issuer.port}` };
  expect((await world.rest("PATCH", path, { issuers: [here] })).status).toBe(200);
  const token = issuer.output().split("\n").at(-1);
  const who = await world.rest("GET", "/api/projects/default/whoami", undefined, {
    authorization: `Bearer ${token}`,
  });
  expect([who.status, who.body["caller"]]).toEqual([
    200,
    expect.objectContaining({ principal: "user:acme:ann", user: "acme:ann", roles: ["runtime"] }),
  ]);
});
