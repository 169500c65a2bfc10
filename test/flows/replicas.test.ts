import { afterAll, beforeAll, expect, test } from "vitest";
import { createDatabase } from "../helpers/postgres.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { ADMIN_KEY, call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let replicas: TestWorld[];
let notes: ModernServer;

beforeAll(async () => {
  const env = {
    CONSENTRY_DATABASE_URL: await createDatabase(),
    CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
  };
  [replicas, notes] = await Promise.all([
    Promise.all([createWorld({ env }), createWorld({ env })]),
    startModernServer(),
  ]);
  await replicas[0]?.connect("notes", { target: notes.url });
});
afterAll(async () => {
  await Promise.all(replicas.map((replica) => replica.stop()));
  await notes.stop();
});

const client = (at: number) =>
  clientOf(replicas[at % replicas.length]?.url ?? "", ADMIN_KEY, { project: "default" });

test("on PostgreSQL, what one replica asked another decides and a third request runs, once", async () => {
  const tools = [{ type: "mcp" as const, server_label: "notes" }];
  for (let round = 0; round < 5; round++) {
    const before = notes.seen("tools/call").length;
    const asked = await client(round).responses.create({
      tools,
      input: [call("notes", "echo", { text: "x" }, `c${round}`)],
    });
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    const approve = (at: number) =>
      client(at).responses.create({
        previous_response_id: asked.id,
        input: [{ type: "mcp_approval_response", approval_request_id: id, approve: true }],
      });
    const answers = await Promise.all(Array.from({ length: 6 }, (_, at) => approve(at)));
    expect(answers.flatMap((one) => itemsOf(one, "mcp_call"))).toHaveLength(1);
    expect(notes.seen("tools/call").length).toBe(before + 1);
  }
});

test("a decision and its contradiction race: one is recorded, the other is refused", async () => {
  const tools = [{ type: "mcp" as const, server_label: "notes" }];
  const before = notes.seen("tools/call").length;
  const asked = await client(0).responses.create({ tools, input: [call("notes", "echo", { text: "x" })] });
  const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
  const decide = (at: number) =>
    client(at)
      .responses.create({
        input: [{ type: "mcp_approval_response", approval_request_id: id, approve: at % 2 === 0 }],
      })
      .then(
        () => "recorded",
        (error: { code: string }) => error.code,
      );
  const answers = await Promise.all([0, 1, 2, 3, 4, 5].map(decide));
  expect(answers.filter((answer) => answer === "approval_contradicted")).toHaveLength(3);
  const { body } = (await replicas[0]?.rest("GET", `/api/projects/default/approvals/${id}`)) ?? { body: {} };
  expect(notes.seen("tools/call").length - before).toBe(
    (body as { status?: string }).status === "denied" ? 0 : 1,
  );
});

test("on PostgreSQL, responses at once in one conversation stand there one behind the other, none lost or doubled", async () => {
  const { id } = await client(0).conversations.create();
  const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
  const texts = Array.from({ length: 8 }, (_, n) => `t${n}`);
  await Promise.all(
    texts.map((text, at) =>
      client(at).responses.create({
        conversation: id,
        tools,
        input: [call("notes", "echo", { text }, `call_${text}`)],
      }),
    ),
  );
  const outputs: string[] = [];
  for await (const item of client(1).conversations.items.list(id, { order: "asc", limit: 3 }))
    if (item.type === "mcp_call") outputs.push(item.output ?? "");
  expect(outputs.toSorted()).toEqual(texts);
});

test("on PostgreSQL, one request sent to both replicas at once under one key runs once", async () => {
  const before = notes.seen("tools/call").length;
  const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
  const body = { tools, input: [call("notes", "echo", { text: "x" }, "c1")] };
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, at) =>
      client(at).responses.create(body, { headers: { "Idempotency-Key": "both" } }),
    ),
  );
  expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
  expect(notes.seen("tools/call").length).toBe(before + 1);
});
