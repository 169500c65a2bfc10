// What a response in the background keeps for whoever goes on with it is sealed (A16).
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { lastText, type ScriptedModel, startModel } from "../helpers/model.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

const canary = (name: string) => `canary-${name}-${crypto.randomUUID()}`;
const secrets = {
  token: canary("token"),
  header: canary("header"),
  words: canary("words"),
  saying: canary("saying"),
  argument: canary("argument"),
  result: canary("result"),
};

let world: TestWorld;
let server: ModernServer;
let model: ScriptedModel;
const finish = Promise.withResolvers<void>();

beforeAll(async () => {
  const tell = {
    name: "tell",
    inputSchema: schemaOf({ word: { type: "string" } }, []),
    run: async () => {
      await finish.promise;
      return say(secrets.result);
    },
  };
  server = await startModernServer({
    header: { name: "authorization", value: `Bearer ${secrets.token}` },
    tools: [tell],
  });
  model = await startModel((request) =>
    lastText(request).includes(secrets.result)
      ? { text: "done" }
      : { text: secrets.saying, calls: [{ name: "inline__tell", arguments: { word: secrets.argument } }] },
  );
  world = await createWorld({ model, env: { CONSENTRY_LOG_LEVEL: "debug", CONSENTRY_AUDIT: "sync" } });
});
afterAll(async () => {
  finish.resolve();
  await world.stop();
  await Promise.all([server.stop(), model.close()]);
});

test("neither while it runs nor afterwards a secret is in the clear: in the database, the log, the audit", async () => {
  const client = await world.runtime();
  const { id } = await client.responses.create({
    model: "m",
    background: true,
    input: secrets.words,
    tools: [
      {
        type: "mcp",
        server_label: "inline",
        server_url: server.url,
        authorization: secrets.token,
        headers: { "x-secret": secrets.header },
        require_approval: "never",
      },
    ],
  });
  const leaks = async () => {
    const audit = await world.rest("GET", "/api/projects/default/audit?limit=100");
    const kept = (await world.databaseBytes()).toString("latin1");
    const said = JSON.stringify([world.logs, audit.body]);
    return Object.entries(secrets).flatMap(([name, secret]) => [
      ...(kept.includes(secret) ? [`${name} in the database`] : []),
      ...(said.includes(secret) ? [`${name} in what is said`] : []),
    ]);
  };
  await expect.poll(() => server.seen("tools/call").length).toBe(1);
  expect((await client.responses.retrieve(id)).status).toBe("in_progress");
  expect(await leaks()).toEqual([]);
  finish.resolve();
  await expect.poll(async () => (await client.responses.retrieve(id)).status).toBe("completed");
  expect(await leaks()).toEqual([]);
  // They were all there.
  const response = JSON.stringify(await client.responses.retrieve(id));
  expect(response).toContain(secrets.result);
  expect(response).toContain(secrets.argument);
  expect(response).toContain(secrets.saying);
  expect(response).not.toContain(secrets.token);
  expect(response).not.toContain(secrets.header);
});

test("a work that is moved to another's place does not open there, and ends without having run", async () => {
  const { background } = world.world.store;
  const { begin } = background;
  const calls = server.seen("tools/call").length;
  const works: Uint8Array[] = [];
  // Whoever can write to the database puts the first one's plan into the second one's row.
  background.begin = (work, sealed, most) => {
    works.push(sealed);
    return begin({ ...work, run: null, leaseUntil: 0 }, works[0] ?? sealed, most);
  };
  const client = await world.runtime();
  const tools = [
    {
      type: "mcp" as const,
      server_label: "inline",
      server_url: server.url,
      authorization: secrets.token,
      require_approval: "never" as const,
    },
  ];
  const send = () => client.responses.create({ model: "m", background: true, input: "go", tools });
  const [own, moved] = [await send(), await send()];
  await expect
    .poll(() => world.logs.filter(({ event }) => event === "background_broke").length, { timeout: 10_000 })
    .toBeGreaterThan(0);
  expect((await client.responses.retrieve(moved.id)).status).not.toBe("completed");
  // The first one's is its own, and opens: it alone has called.
  await expect
    .poll(async () => (await client.responses.retrieve(own.id)).status, { timeout: 10_000 })
    .toBe("completed");
  expect(server.seen("tools/call").length).toBe(calls + 1);
});
