import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type BackgroundStage,
  client,
  createBackgroundStage,
  followed,
  polled,
  tools,
} from "../helpers/background.ts";
import { lastText } from "../helpers/model.ts";
import { ADMIN_KEY, call, clientOf, itemsOf } from "../helpers/world.ts";

let stage: BackgroundStage;

beforeEach(async () => {
  stage = await createBackgroundStage();
});
afterEach(() => stage.stop());

test("asked to stop, it lets the call under way end, gives the rest back, and another goes on at once", async () => {
  const begun = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  stage.during = () => {
    begun.resolve();
    return finish.promise;
  };
  stage.script = (request) =>
    lastText(request).includes("worked")
      ? { text: "Done." }
      : { calls: [{ name: "work__work", arguments: { text: "x" } }] };
  const a = await stage.replica();
  const b = await stage.replica();
  const { id } = await client(a.url).responses.create({ model: "m", background: true, tools, input: "go" });
  await begun.promise;
  const asked = stage.model.requests.length;
  const stopped = a.stop();
  await expect.poll(() => a.logs.some(({ event }) => event === "stopping")).toBe(true);
  finish.resolve();
  await stopped;
  const response = await polled(b.url, id);
  expect(response).toMatchObject({ status: "completed", output_text: "Done." });
  expect(itemsOf(response, "mcp_call")).toMatchObject([{ output: "worked x" }]);
  expect(stage.runs.get("x")).toBe(1);
  expect(stage.model.requests.length).toBe(asked + 1);
}, 60_000);

test("stopped while the model speaks, it is given back at once", async () => {
  const spoken = Promise.withResolvers<void>();
  stage.script = () => ({
    frames: (async function* () {
      spoken.resolve();
      await new Promise(() => {});
      yield "";
    })(),
  });
  const a = await stage.replica();
  const b = await stage.replica();
  const { id } = await client(a.url).responses.create({ model: "m", background: true, input: "go" });
  await spoken.promise;
  stage.script = () => ({ text: "Whole." });
  await a.stop();
  expect(await polled(b.url, id)).toMatchObject({ status: "completed", output_text: "Whole." });
}, 60_000);

test("what is more than one process makes waits, and another makes it", async () => {
  const finish = Promise.withResolvers<void>();
  stage.during = (text) => (text === "last" || text === "other" ? undefined : finish.promise);
  const a = await stage.replica();
  const send = (text: string, openai = client(a.url)) =>
    openai.responses.create({
      background: true,
      tools,
      input: [call("work", "work", { text }, text)],
    });
  for (let at = 0; at < 16; at++) await send(`c${at}`);
  const last = await send("last");
  await expect.poll(() => stage.runs.size).toBe(16);
  expect((await client(a.url).responses.retrieve(last.id)).status).toBe("queued");
  const scraped = await fetch(`${a.url}/metrics`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
  const lines = (await scraped.text()).split("\n");
  expect(lines).toContain("consentry_background_running 16");
  expect(lines).toContain('consentry_background_responses_total{outcome="queued"} 17');
  // A caller's share is bounded, and a project's; what is refused was not begun.
  const refused = { status: 429, code: "too_many_background" };
  for (let at = 17; at < 50; at++) await send("last");
  await expect(send("too much")).rejects.toMatchObject(refused);
  const caller = await a.runtime();
  for (let at = 0; at < 50; at++) await send("last", caller);
  await expect(send("too much", await a.runtime())).rejects.toMatchObject(refused);
  expect(stage.runs.has("last")).toBe(false);
  // Another project does not stand behind this one.
  await a.rest("POST", "/api/projects", { name: "other" });
  await a.connect("work", { target: stage.server.url }, "other");
  const other = clientOf(a.url, ADMIN_KEY, { project: "other" });
  const input = [call("work", "work", { text: "other" }, "c1")];
  const { id: own } = await other.responses.create({ background: true, tools, input });
  await expect.poll(async () => (await other.responses.retrieve(own)).status).not.toBe("queued");
  const b = await stage.replica();
  expect((await polled(b.url, last.id)).status).toBe("completed");
  finish.resolve();
  await expect.poll(() => stage.runs.get("last"), { timeout: 20_000 }).toBe(84);
  expect(stage.runs.has("too much")).toBe(false);
}, 60_000);

test("stopped with more calls than run at once, those that had not begun are made by another, each once", async () => {
  const finish = Promise.withResolvers<void>();
  stage.during = () => finish.promise;
  const a = await stage.replica();
  const b = await stage.replica();
  const names = Array.from({ length: 40 }, (_, at) => `n${at}`);
  const input = names.map((text) => call("work", "work", { text }, text));
  const { id } = await client(a.url).responses.create({ background: true, tools, input });
  await expect.poll(() => stage.runs.size).toBe(32);
  const stopped = a.stop();
  await expect.poll(() => a.logs.some(({ event }) => event === "stopping")).toBe(true);
  finish.resolve();
  await stopped;
  const response = await polled(b.url, id);
  expect(itemsOf(response, "mcp_call").map(({ output }) => output)).toEqual(names.map((n) => `worked ${n}`));
  expect([...stage.runs.values()]).toEqual(names.map(() => 1));
  await followed(b.url, id);
}, 60_000);
