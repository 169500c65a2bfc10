import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { describe, expect, test } from "vitest";
import type { TurnEvent } from "../../src/core/request.ts";
import { streamTurn } from "../../src/http/sse.ts";

const PATIENCE_MS = 100;

/** A turn of so many steps, and what became of it. */
function scriptedTurn(steps: number, chars = 1) {
  const seen = { steps: 0, left: 0 };
  const over = Promise.withResolvers<void>();
  const left = Promise.withResolvers<void>();
  async function* run(): AsyncGenerator<TurnEvent> {
    for (let at = 0; at < steps; at++) {
      seen.steps++;
      yield { kind: "function_arguments_delta", index: 0, itemId: "fc_1", delta: "x".repeat(chars) };
      // After its caller has left, a turn ends soon.
      if (seen.left > 0) break;
    }
    over.resolve();
  }
  const onLeave = () => {
    seen.left++;
    left.resolve();
  };
  return { seen, over: over.promise, left: left.promise, turn: run(), onLeave };
}

test("events up to the one that the caller has are left out, also in the middle of a step, and numbers stay", async () => {
  async function* run(): AsyncGenerator<TurnEvent> {
    for (const text of ["a", "b", "c"])
      yield { kind: "call_arguments", index: 0, itemId: "mcp_1", arguments: text };
  }
  const read = async (startingAfter: number) => {
    const text = await streamTurn(run(), { onLeave: () => {}, startingAfter }).text();
    return [...text.matchAll(/"sequence_number":(\d+)/g)].map(([, n]) => Number(n));
  };
  // Each step is two events.
  expect(await read(-1)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(await read(0)).toEqual([1, 2, 3, 4, 5]);
  expect(await read(3)).toEqual([4, 5]);
  expect(await read(4)).toEqual([5]);
  expect(await read(100)).toEqual([]);
});

describe("a reader that stands still", () => {
  test("counts as gone: the turn hears of it, is read to its end, and the stream breaks off", async () => {
    const { turn, onLeave, seen, over } = scriptedTurn(1_000);
    const { body } = streamTurn(turn, { onLeave, patienceMs: PATIENCE_MS });
    const reader = body?.getReader();
    await reader?.read();
    await over;
    expect(seen.left).toBe(1);
    expect(seen.steps).toBeLessThan(5);
    await expect(reader?.read()).rejects.toThrow("took nothing");
    expect(seen.left).toBe(1);
  });

  test("and so does one that never began", async () => {
    const { turn, onLeave, seen, over } = scriptedTurn(1_000);
    streamTurn(turn, { onLeave, patienceMs: PATIENCE_MS });
    await over;
    expect(seen).toEqual({ steps: 1, left: 1 });
  });

  test("a fault of the turn that nobody reads any more stays its own", async () => {
    const left = Promise.withResolvers<void>();
    async function* run(): AsyncGenerator<TurnEvent> {
      yield { kind: "function_arguments_delta", index: 0, itemId: "fc_1", delta: "x" };
      throw new Error("broke");
    }
    streamTurn(run(), { onLeave: left.resolve, patienceMs: PATIENCE_MS });
    // An unhandled rejection would fail the run, too.
    await expect(left.promise).resolves.toBeUndefined();
  });

  test("behind a real socket, whatever the buffers between hold", async () => {
    const { turn, onLeave, seen, over, left } = scriptedTurn(100_000, 10_000);
    const server = createAdaptorServer({
      fetch: () => streamTurn(turn, { onLeave, patienceMs: PATIENCE_MS }),
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const socket = connect(port, "127.0.0.1");
    socket.pause();
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await left;
    await over;
    // The system's buffers took some megabytes, and the process none that nobody reads.
    expect(seen.steps).toBeLessThan(5_000);
    // The connection does not outlive its stream.
    socket.on("error", () => {});
    socket.resume();
    await once(socket, "close");
    server.close();
    await once(server, "close");
  });
});

describe("a reader that is slow", () => {
  test("reads a turn to its end, at its own pace", async () => {
    const { turn, onLeave, seen } = scriptedTurn(5);
    const { body } = streamTurn(turn, { onLeave, patienceMs: PATIENCE_MS });
    const decoder = new TextDecoder();
    let text = "";
    for await (const chunk of body ?? []) {
      text += decoder.decode(chunk, { stream: true });
      await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS / 2));
    }
    expect(seen).toEqual({ steps: 5, left: 0 });
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
  });

  test("may wait for the turn longer than the turn waits for it", async () => {
    const gate = Promise.withResolvers<void>();
    async function* run(): AsyncGenerator<TurnEvent> {
      yield { kind: "function_arguments_delta", index: 0, itemId: "fc_1", delta: "x" };
      await gate.promise;
    }
    let left = 0;
    const { body } = streamTurn(run(), { onLeave: () => left++, patienceMs: PATIENCE_MS });
    const read = new Response(body).text();
    setTimeout(() => gate.resolve(), PATIENCE_MS * 2);
    expect(await read).toContain("[DONE]");
    expect(left).toBe(0);
  });

  test("that leaves is heard of once, and the turn is read to its end", async () => {
    const { turn, onLeave, seen, over } = scriptedTurn(1_000);
    const { body } = streamTurn(turn, { onLeave, patienceMs: PATIENCE_MS });
    await body?.cancel();
    await over;
    await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS * 2));
    expect(seen.left).toBe(1);
  });

  test("and who leaves while the turn works is waited for by nobody", async () => {
    const gate = Promise.withResolvers<void>();
    const over = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    async function* run(): AsyncGenerator<TurnEvent> {
      begun.resolve();
      await gate.promise;
      yield { kind: "function_arguments_delta", index: 0, itemId: "fc_1", delta: "x" };
      over.resolve();
    }
    let left = 0;
    const { body } = streamTurn(run(), { onLeave: () => left++, patienceMs: PATIENCE_MS });
    await begun.promise;
    const gone = body?.cancel();
    gate.resolve();
    await Promise.all([gone, over.promise]);
    await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS * 2));
    expect(left).toBe(1);
  });
});
