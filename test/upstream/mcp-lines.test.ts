import { expect, test } from "vitest";
import { startDeadline } from "../../src/upstream/mcp-deadline.ts";
import { failed } from "../../src/upstream/mcp-failures.ts";
import { type Connect, createLines } from "../../src/upstream/mcp-lines.ts";
import { accessTo, within } from "../helpers/mcp-upstream.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const access = accessTo("https://mcp.example.com/");
const MODERN = { ok: true, line: { era: "modern", version: "2026-07-28" } } as const;

/** Nothing of it ever settles: the request that began it has ended, and took it along. */
const cutOff: Connect = () => new Promise(() => {});
/** The server says nothing. */
const silent: Connect = async ({ deadline }) => {
  await deadline.over;
  return failed(deadline.ended() ?? { kind: "cancelled", message: "" }, { sent: false });
};

/** Lines whose first contacts go one after the other as the test says. */
function createDesk(contacts: Connect[], { cutsAfterMs }: { cutsAfterMs?: number } = {}) {
  const moved = scriptedClock();
  let isCut = false;
  const sleep: typeof moved.sleep = (ms, signal) => (isCut ? new Promise(() => {}) : moved.sleep(ms, signal));
  const clock = { ...moved, sleep, ...(cutsAfterMs !== undefined && { cutsAfterMs }) };
  let made = 0;
  const connect: Connect = async (to) => (contacts[made++] ?? silent)(to);
  const lines = createLines({ clock, log: () => {}, connect, end: async () => {} });
  const take = async (timeoutMs: number) => {
    const deadline = startDeadline(clock, within(timeoutMs));
    const held = await lines.take(access, { deadline, capabilities: {} });
    deadline.stop();
    return held.ok ? held.line.era : held.failure.kind;
  };
  /** By a request that ends at once, and all its timers with it. */
  const takeAndEnd = () => {
    isCut = true;
    void take(60_000);
    isCut = false;
  };
  return { take, takeAndEnd, made: () => made, advance: moved.advance };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a first contact that ended with its request is made anew by one of those who wait for it", async () => {
  const { take, takeAndEnd, made, advance } = createDesk([cutOff, async () => MODERN], {
    cutsAfterMs: 25_000,
  });
  takeAndEnd();
  const waiting = [take(60_000), take(60_000)];
  await settled();
  expect(made()).toBe(1);
  advance(25_000);
  expect(await Promise.all(waiting)).toEqual(["modern", "modern"]);
  expect(await take(1_000)).toBe("modern");
  expect(made()).toBe(2);
});

test("who has less time than that waits no longer than it has, and whoever comes later does not wait at all", async () => {
  const { take, takeAndEnd, made, advance } = createDesk([cutOff, async () => MODERN], {
    cutsAfterMs: 25_000,
  });
  takeAndEnd();
  const hasty = take(1_000);
  await settled();
  advance(1_000);
  expect(await hasty).toBe("timeout");
  advance(24_000);
  const later = take(60_000);
  advance(0);
  expect(await later).toBe("modern");
  expect(made()).toBe(2);
});

test("a silent server has twenty seconds where requests are ended, a minute elsewhere, and all who wait hear of it", async () => {
  for (const [cutsAfterMs, ms] of [
    [25_000, 20_000],
    [undefined, 60_000],
  ] as const) {
    const { take, made, advance } = createDesk([silent], cutsAfterMs ? { cutsAfterMs } : {});
    const waiting = [take(600_000), take(600_000)];
    await settled();
    advance(ms - 1);
    await settled();
    expect(made()).toBe(1);
    advance(1);
    expect(await Promise.all(waiting)).toEqual(["timeout", "timeout"]);
    expect(made()).toBe(1);
  }
});
