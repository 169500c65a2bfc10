import { expect, test } from "vitest";
import { createSseReader } from "../../src/upstream/mcp-sse.ts";

const block = (over: object) => ({ type: "message", data: null, id: null, retryMs: null, ...over });

const cases: [string, string, object[]][] = [
  ["one event", "data: a\n\n", [block({ data: "a" })]],
  ["no space after the colon", "data:a\n\n", [block({ data: "a" })]],
  ["one space only is taken away", "data:  a\n\n", [block({ data: " a" })]],
  ["several lines of data", "data: a\ndata\ndata: b\n\n", [block({ data: "a\n\nb" })]],
  ["CR LF", "data: a\r\n\r\ndata: b\r\n\r\n", [block({ data: "a" }), block({ data: "b" })]],
  ["CR alone", "data: a\r\rdata: b\r\r", [block({ data: "a" }), block({ data: "b" })]],
  [
    "ends of all kinds",
    "data: a\r\ndata: b\r\n\ndata: c\n\r",
    [block({ data: "a\nb" }), block({ data: "c" })],
  ],
  ["type and id", "event: x\nid: 7\ndata: a\n\n", [block({ type: "x", id: "7", data: "a" })]],
  ["an id alone", "id: 7\n\n", [block({ id: "7" })]],
  ["an id with NUL", "id: a\0b\ndata: a\n\n", [block({ data: "a" })]],
  ["retry", "retry: 1500\n\nretry: -1\n\nretry: 1e3\n\n", [block({ retryMs: 1500 }), block({}), block({})]],
  ["comments and empty blocks", ":ping\n\n\n\n: x\ndata: a\n\n", [block({ data: "a" })]],
  ["fields nobody knows", "foo: bar\ndata: a\n\n", [block({ data: "a" })]],
  ["a byte order mark", "\ufeffdata: a\n\n", [block({ data: "a" })]],
  ["what is not finished", "data: a\n\ndata: b\n", [block({ data: "a" })]],
];

test.each(cases)("reads %s, however it is cut", (_what, text, expected) => {
  expect(createSseReader().read(text)).toEqual(expected);
  const reader = createSseReader();
  expect(text.split("").flatMap((character) => reader.read(character))).toEqual(expected);
  for (let cut = 0; cut <= text.length; cut++) {
    const halves = createSseReader();
    expect([...halves.read(text.slice(0, cut)), ...halves.read(text.slice(cut))]).toEqual(expected);
  }
});
