import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type OpenAI from "openai";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { call, createWorld, itemsOf, MODES, respond, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let model: ScriptedModel;
let client: OpenAI;
let script: ScriptedTurn[] = [];

beforeAll(async () => {
  [notes, model] = await Promise.all([
    startModernServer(),
    startModel(() => script.shift() ?? { status: 500, body: { error: { message: "no more turns" } } }),
  ]);
  world = await createWorld({ model });
  await world.connect("notes", { target: notes.url });
  client = await world.runtime();
});
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), model.close()]);
});

const always = { type: "mcp" as const, server_label: "notes" };
const approve = (id: string) => ({
  type: "mcp_approval_response" as const,
  approval_request_id: id,
  approve: true,
});
const deny = (id: string, reason?: string) => ({
  ...approve(id),
  approve: false,
  ...(reason !== undefined && { reason }),
});
const ran = () => notes.seen("tools/call").length;
const lastMessages = () => JSON.stringify(model.requests.at(-1)?.body.messages);

async function ask(id = "c1", text = "hello") {
  const response = await client.responses.create({
    tools: [always],
    input: [call("notes", "echo", { text }, id)],
  });
  const [request] = itemsOf(response, "mcp_approval_request");
  return { response, id: request?.id ?? "" };
}

describe.each(MODES)("with a model, %s", (mode) => {
  const deleteNote = { calls: [{ name: "notes__delete_note", arguments: { id: "1" } }] };

  test("a call is held, approved by id and run as it was stored", async () => {
    const before = ran();
    script = [deleteNote];
    const asked = await respond(client, { model: "m", input: "delete note 1", tools: [always] }, mode);
    expect(asked.status).toBe("completed");
    expect(asked.output.map(({ type }) => type)).toEqual(["mcp_list_tools", "mcp_approval_request"]);
    const [request] = itemsOf(asked, "mcp_approval_request");
    expect(request).toEqual({
      type: "mcp_approval_request",
      id: expect.stringMatching(/^mcpr_[0-9a-f]{50}$/),
      server_label: "notes",
      name: "delete_note",
      arguments: '{"id":"1"}',
    });
    expect(ran()).toBe(before);

    script = [{ text: "It is gone." }];
    const input = [approve(request?.id ?? "")];
    const done = await respond(client, { previous_response_id: asked.id, input }, mode);
    expect(done.output.map(({ type }) => type)).toEqual(["mcp_call", "message"]);
    expect(itemsOf(done, "mcp_call")[0]).toMatchObject({
      approval_request_id: request?.id,
      output: "deleted 1",
      status: "completed",
    });
    expect(ran()).toBe(before + 1);
    expect(lastMessages()).toContain("deleted 1");
  });

  test("a denial runs nothing, and the model sees the reason", async () => {
    const before = ran();
    script = [deleteNote];
    const asked = await respond(client, { model: "m", input: "delete note 1", tools: [always] }, mode);
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    script = [{ text: "I leave it." }];
    const done = await respond(
      client,
      { previous_response_id: asked.id, input: [deny(id, "it is precious")] },
      mode,
    );
    expect(done.output.map(({ type }) => type)).toEqual(["message"]);
    expect(lastMessages()).toContain("it is precious");
    expect(ran()).toBe(before);
  });

  test("a denial that is said again as the output of a call of the client's own is one denial", async () => {
    const user = { role: "user" as const, content: "delete note 1" };
    const echo = { type: "function_call_output" as const, call_id: "made_up", output: "it is precious" };
    const body = { model: "m", tools: [always] };
    for (const chained of [true, false]) {
      script = [deleteNote];
      const asked = await respond(client, { ...body, input: [user] }, mode);
      const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
      script = [{ text: "I leave it." }];
      const input = [...(chained ? [] : [user]), deny(id), echo];
      const previous = chained ? { previous_response_id: asked.id } : {};
      const done = await respond(client, { ...body, ...previous, input }, mode);
      expect(done.output_text).toBe("I leave it.");
      expect(lastMessages()).not.toContain("made_up");
      const kept = await client.responses.inputItems.list(done.id);
      expect(kept.data.map(({ type }) => type as string)).not.toContain("function_call_output");
    }
    // Without a denial before it, it is the answer to nothing.
    const lost = client.responses.create({ ...body, input: [user, echo] });
    await expect(lost).rejects.toMatchObject({ status: 400, message: expect.stringContaining("made_up") });
  });

  test("approvals chain, and a resent history runs nothing again", async () => {
    script = [deleteNote];
    const history: unknown[] = [{ role: "user", content: "delete two notes" }];
    const turn = async () => {
      const body = { model: "m", store: false, input: [...history] as never, tools: [always] };
      const response = await respond(client, body, mode);
      history.push(...response.output.filter(({ type }) => type !== "mcp_list_tools"));
      return response;
    };
    const before = ran();
    const first = itemsOf(await turn(), "mcp_approval_request")[0]?.id ?? "";
    history.push(approve(first));
    script = [{ calls: [{ name: "notes__delete_note", arguments: { id: "2" } }] }];
    const second = itemsOf(await turn(), "mcp_approval_request")[0]?.id ?? "";
    expect(ran()).toBe(before + 1);
    history.push(approve(second));
    script = [{ text: "both gone" }];
    const third = await turn();
    expect(itemsOf(third, "mcp_call")).toHaveLength(1);
    history.push({ role: "user", content: "thanks" });
    script = [{ text: "welcome" }];
    const fourth = await turn();
    expect(fourth.output.map(({ type }) => type).filter((type) => type !== "mcp_list_tools")).toEqual([
      "message",
    ]);
    expect(ran()).toBe(before + 2);
    const messages = model.requests.at(-1)?.body.messages;
    expect(messages?.map(({ role }) => role)).toEqual([
      "user",
      "assistant",
      "tool",
      "tool",
      "assistant",
      "user",
    ]);
  });

  test("by its id alone, with and without store, whatever the client forgot", async () => {
    for (const store of [true, false]) {
      const before = ran();
      script = [deleteNote];
      const asked = await respond(client, { model: "m", store, input: "delete", tools: [always] }, mode);
      const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
      script = [{ text: "done" }];
      const input = [{ role: "user" as const, content: "delete" }, approve(id)];
      const done = await respond(client, { model: "m", store, input, tools: [always] }, mode);
      expect(itemsOf(done, "mcp_call")[0]?.output).toBe("deleted 1");
      expect(ran()).toBe(before + 1);
      expect(lastMessages()).toContain("deleted 1");
    }
    script = [deleteNote];
    const asked = await respond(client, { model: "m", input: "delete", tools: [always] }, mode);
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    script = [{ text: "done" }];
    const done = await respond(client, { input: [approve(id)] }, mode);
    expect(done.output_text).toBe("done");
    expect(done.model).toBe("m");
  });

  test("an item_reference beside the answer is resolved, with previous_response_id it is not twice", async () => {
    for (const chained of [true, false]) {
      script = [deleteNote];
      const asked = await respond(client, { model: "m", input: "delete", tools: [always] }, mode);
      const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
      script = [{ text: "done" }];
      const input = [
        { role: "user" as const, content: "delete" },
        { type: "item_reference" as const, id },
        approve(id),
      ];
      const body = { model: "m", tools: [always], input, ...(chained && { previous_response_id: asked.id }) };
      const done = await respond(client, body, mode);
      expect(itemsOf(done, "mcp_call")).toHaveLength(1);
    }
  });

  test("some decided: those run, the others are asked again with the same ids, without a model turn", async () => {
    script = [{ calls: ["1", "2"].map((id) => ({ name: "notes__delete_note", arguments: { id } })) }];
    const asked = await respond(client, { model: "m", input: "delete both", tools: [always] }, mode);
    const [a, b] = itemsOf(asked, "mcp_approval_request").map(({ id }) => id);
    const rounds = model.requests.length;
    const half = await respond(client, { previous_response_id: asked.id, input: [approve(a ?? "")] }, mode);
    expect(half.output.map(({ type }) => type)).toEqual(["mcp_call", "mcp_approval_request"]);
    expect(itemsOf(half, "mcp_approval_request")[0]?.id).toBe(b);
    expect(model.requests.length).toBe(rounds);
    script = [{ text: "both done" }];
    const rest = await respond(client, { previous_response_id: half.id, input: [approve(b ?? "")] }, mode);
    expect(rest.output_text).toBe("both done");
    expect(lastMessages()).toContain("deleted 1");
    expect(lastMessages()).toContain("deleted 2");
  });

  test("new words instead of a decision: the model sees that the call waits, and it can still be approved", async () => {
    const before = ran();
    script = [deleteNote];
    const asked = await respond(client, { model: "m", input: "delete", tools: [always] }, mode);
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    script = [{ text: "waiting for you" }];
    const talk = await respond(
      client,
      { previous_response_id: asked.id, input: "what are you waiting for?" },
      mode,
    );
    expect(talk.output_text).toBe("waiting for you");
    expect(lastMessages()).toContain("Not run: approval pending.");
    script = [{ text: "now it is" }];
    const done = await respond(client, { previous_response_id: talk.id, input: [approve(id)] }, mode);
    expect(itemsOf(done, "mcp_call")).toHaveLength(1);
    expect(ran()).toBe(before + 1);
  });

  test("never by name and by read_only does not ask, everything else does", async () => {
    script = [
      {
        calls: [
          { name: "notes__read_note", arguments: {} },
          { name: "notes__echo", arguments: { text: "x" } },
        ],
      },
    ];
    const byHint = { ...always, require_approval: { never: { read_only: true } } };
    const one = await respond(client, { model: "m", input: "go", tools: [byHint as never] }, mode);
    expect(itemsOf(one, "mcp_call").map(({ name }) => name)).toEqual(["read_note"]);
    expect(itemsOf(one, "mcp_approval_request").map(({ name }) => name)).toEqual(["echo"]);
    script = [
      {
        calls: [
          { name: "notes__read_note", arguments: {} },
          { name: "notes__echo", arguments: { text: "x" } },
        ],
      },
    ];
    const byName = { ...always, require_approval: { never: { tool_names: ["echo"] } } };
    const two = await respond(client, { model: "m", input: "go", tools: [byName] }, mode);
    expect(itemsOf(two, "mcp_call").map(({ name }) => name)).toEqual(["echo"]);
  });
});

describe("explicit calls", () => {
  test("approved without repeating the tools, under the id of the call", async () => {
    const { response, id } = await ask("c9");
    const done = await client.responses.create({ previous_response_id: response.id, input: [approve(id)] });
    expect(done.output).toMatchObject([
      { type: "mcp_call", id: "c9", output: "hello", approval_request_id: id },
    ]);
  });

  test("asked for again while it waits, it is the same request", async () => {
    const { response, id } = await ask("c9");
    const input = [call("notes", "echo", { text: "hello" }, "c9")];
    const again = await client.responses.create({ previous_response_id: response.id, input });
    expect(itemsOf(again, "mcp_approval_request").map((item) => item.id)).toEqual([id]);
  });

  test("a denial is answered by one message", async () => {
    const before = ran();
    const { response, id } = await ask();
    const done = await client.responses.create({ previous_response_id: response.id, input: [deny(id)] });
    expect(done.output.map(({ type }) => type)).toEqual(["message"]);
    expect(done.output_text).toContain("denied");
    expect(ran()).toBe(before);
  });

  test("doubled: one runs, the other waits for it and makes no mcp_call", async () => {
    const before = ran();
    const { response, id } = await ask();
    const answer = () => client.responses.create({ previous_response_id: response.id, input: [approve(id)] });
    const both = await Promise.all(Array.from({ length: 8 }, answer));
    expect(both.flatMap((one) => itemsOf(one, "mcp_call"))).toHaveLength(1);
    expect(both.filter((one) => one.output_text.includes("already decided"))).toHaveLength(7);
    expect(ran()).toBe(before + 1);
  });
});

describe("decided by somebody else", () => {
  test("REST only decides; the owner's next request runs the call, once", async () => {
    await world.connect("guarded", { target: notes.url, approvers: "role" });
    const tool = { type: "mcp" as const, server_label: "guarded", require_approval: "never" as const };
    const guarded = { ...tool, require_approval: "always" as const };
    const asked = await client.responses.create({
      tools: [guarded],
      input: [call("guarded", "echo", { text: "four eyes" })],
    });
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    const own = client.responses.create({ previous_response_id: asked.id, input: [approve(id)] });
    await expect(own).rejects.toMatchObject({ status: 403, code: "approval_needs_role" });

    const before = ran();
    const made = await world.rest("POST", "/api/projects/default/keys", {
      name: "boss",
      roles: ["approver"],
    });
    const headers = { authorization: `Bearer ${String(made.body["key"])}` };
    const listed = await world.rest(
      "GET",
      "/api/projects/default/approvals?status=pending",
      undefined,
      headers,
    );
    expect(JSON.stringify(listed.body)).toContain(id);
    const shown = await world.rest("GET", `/api/projects/default/approvals/${id}`, undefined, headers);
    expect(shown.body).toMatchObject({
      id,
      status: "pending",
      tool: "echo",
      arguments: '{"text":"four eyes"}',
    });
    const decided = await world.rest(
      "POST",
      `/api/projects/default/approvals/${id}:decide`,
      { approve: true },
      headers,
    );
    expect(decided.body).toMatchObject({ id, status: "approved" });
    expect(ran()).toBe(before);

    const both = await Promise.all(
      [1, 2, 3].map(() => client.responses.create({ previous_response_id: asked.id, input: [] })),
    );
    expect(both.flatMap((one) => itemsOf(one, "mcp_call"))).toMatchObject([{ output: "four eyes" }]);
    expect(ran()).toBe(before + 1);
  });
});

test("the connection's own rule is added to the request's, never taken away", async () => {
  await world.connect("strict", {
    target: notes.url,
    requireApproval: { always: { tool_names: ["echo"] }, never: { read_only: false } },
  });
  const tool = { type: "mcp" as const, server_label: "strict", require_approval: "never" as const };
  const input = [
    call("strict", "echo", { text: "x" }, "a"),
    call("strict", "add", { a: 1, b: 1 }, "b"),
    call("strict", "read_note", {}, "c"),
  ];
  const response = await client.responses.create({ tools: [tool], input });
  expect(response.output.map((item) => [item.type, "name" in item && item.name])).toEqual([
    ["mcp_approval_request", "echo"],
    ["mcp_call", "add"],
    ["mcp_approval_request", "read_note"],
  ]);
});

test("decisions and calls are in the audit, without arguments", async () => {
  const { response, id } = await ask("c1", "a very secret word");
  await client.responses.create({ previous_response_id: response.id, input: [approve(id)] });
  await expect
    .poll(async () => {
      const { body } = await world.rest("GET", `/api/projects/default/audit?approvalId=${id}&limit=50`);
      return (body as unknown as { value: { event: string }[] }).value.map(({ event }) => event).toSorted();
    })
    .toEqual(["approval_approved", "approval_dispatched", "approval_requested", "tool_called"]);
  const { body } = await world.rest("GET", "/api/projects/default/audit?limit=100");
  expect(JSON.stringify(body)).not.toContain("a very secret word");
});
