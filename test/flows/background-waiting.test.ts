import { afterEach, beforeEach, expect, test } from "vitest";
import type { ResponseId } from "../../src/core/ids.ts";
import {
  type BackgroundStage,
  client,
  createBackgroundStage,
  followed,
  polled,
  tools,
} from "../helpers/background.ts";
import { call, type TestWorld } from "../helpers/world.ts";

const HOUR_MS = 60 * 60 * 1000;

let stage: BackgroundStage;

beforeEach(async () => {
  stage = await createBackgroundStage();
});
afterEach(() => stage.stop());

const send = ({ url }: TestWorld, text: string) =>
  client(url).responses.create({
    background: true,
    tools,
    input: [call("work", "work", { text }, text)],
  });

/** One that nobody has begun, and that nobody takes up before the clock is moved. */
async function waiting(a: TestWorld): Promise<ResponseId> {
  const { background } = a.world.store;
  const { begin } = background;
  const later = Date.now() + HOUR_MS;
  background.begin = (work, ...rest) => begin({ ...work, run: null, leaseUntil: later }, ...rest);
  const { id } = await send(a, "waiting");
  background.begin = begin;
  return id as ResponseId;
}

const tooLate = {
  status: "failed",
  error: { message: "it may not go on: for 24 hours there was no room to begin it" },
};

test("what nobody began within 24 hours ends as failed, and its stream says so", async () => {
  const a = await stage.replica();
  const id = await waiting(a);
  a.advance(24 * HOUR_MS);
  expect(await polled(a.url, id)).toMatchObject(tooLate);
  expect(stage.runs.size).toBe(0);
  await expect(followed(a.url, id)).rejects.toThrow("for 24 hours");
}, 30_000);

test("an hour earlier it is made", async () => {
  const a = await stage.replica();
  const id = await waiting(a);
  a.advance(23 * HOUR_MS);
  expect((await polled(a.url, id)).status).toBe("completed");
  expect(stage.runs.get("waiting")).toBe(1);
}, 30_000);

test("it ends where there is still no room, and whoever died when it ended began nothing", async () => {
  const a = await stage.replica();
  const { promise, resolve: finish } = Promise.withResolvers<void>();
  stage.during = () => promise;
  for (let at = 0; at < 16; at++) await send(a, `c${at}`);
  const id = await waiting(a);
  await expect.poll(() => stage.runs.size, { timeout: 10_000 }).toBe(16);
  const { claim, append } = a.world.store.background;
  const dead = { project: "default", id, run: "w_dead" as const };
  const far = Date.now() + 2 * HOUR_MS;
  await claim({ ...dead, now: far, leaseUntil: far });
  const { store, sealer } = a.world;
  const sealed = await sealer.seal(
    JSON.stringify([{ mark: { kind: "taken" } }]),
    JSON.stringify(["background", "default", id, 0]),
  );
  await append({ ...dead, seq: 0, sealed, leaseUntil: far });
  const queued = await waiting(a);
  a.advance(24 * HOUR_MS);
  await expect
    .poll(async () => (await store.background.state("default", queued))?.status, { timeout: 10_000 })
    .toBe("done");
  expect(stage.runs.has("waiting")).toBe(false);
  finish();
  expect(await polled(a.url, queued)).toMatchObject(tooLate);
  expect(await polled(a.url, id)).toMatchObject(tooLate);
  expect(stage.runs.has("waiting")).toBe(false);
}, 60_000);
