import { expect, test } from "vitest";
import { isStream, untilEnd } from "../../src/http/stream-end.ts";

/** An answer that writes a piece each time it is asked for one, `pieces` times. */
function answering(pieces: number) {
  const seen = { pulls: 0, cancelled: 0, ended: 0 };
  let given: ReadableStreamDefaultController<Uint8Array> | undefined;
  const body = new ReadableStream<Uint8Array>(
    {
      start: (controller) => {
        given = controller;
      },
      pull: (controller) => {
        if (++seen.pulls > pieces) return controller.close();
        controller.enqueue(new TextEncoder().encode(`${seen.pulls} `));
      },
      cancel: () => {
        seen.cancelled++;
      },
    },
    { highWaterMark: 0 },
  );
  const init = { status: 201, headers: { "content-type": "text/event-stream", "x-a": "1" } };
  const answer = untilEnd(new Response(body, init), () => {
    seen.ended++;
  });
  return { seen, answer, breakOff: () => given?.error(new Error("broke")) };
}
const aMoment = () => new Promise((resolve) => setTimeout(resolve, 5));

test("an answer is the same, and its end is said once", async () => {
  const { seen, answer } = answering(3);
  expect([answer.status, answer.headers.get("x-a")]).toEqual([201, "1"]);
  await aMoment();
  // Nothing is read ahead of who reads.
  expect(seen).toMatchObject({ pulls: 0, ended: 0 });
  expect(await answer.text()).toBe("1 2 3 ");
  await aMoment();
  expect(seen).toMatchObject({ cancelled: 0, ended: 1 });
});

test("a reader that leaves is told to whoever writes, and is an end", async () => {
  const { seen, answer } = answering(3);
  const reader = answer.body?.getReader();
  await reader?.read();
  await reader?.cancel();
  await aMoment();
  expect(seen).toMatchObject({ pulls: 1, cancelled: 1, ended: 1 });
});

test("what breaks off while nobody reads breaks off for the reader, and is an end", async () => {
  const { seen, answer, breakOff } = answering(3);
  const reader = answer.body?.getReader();
  await reader?.read();
  breakOff();
  await aMoment();
  expect(seen.ended).toBe(1);
  await expect(reader?.closed).rejects.toThrow("broke");
});

test("a stream is told by its type", () => {
  const typed = (type: string, body: string | null = "x") =>
    isStream(new Response(body, { headers: { "content-type": type } }));
  expect([typed("text/event-stream; charset=utf-8"), typed("application/json")]).toEqual([true, false]);
  expect(typed("text/event-stream", null)).toBe(false);
});
