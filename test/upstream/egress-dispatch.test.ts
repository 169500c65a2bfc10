import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { wholeOf } from "../../src/upstream/egress-watch.ts";
import { startHttpServer } from "../helpers/http-server.ts";

const MIB = 1024 * 1024;
const LIMITS = { totalMs: 30_000, idleMs: 30_000, maxBytes: 256 * MIB, maxDepth: 100 };

test("an answer that nobody reads yet is not read off its connection, and all of it is there later", async () => {
  const server = await startHttpServer((_, response) => {
    response.writeHead(200, { "content-type": "application/octet-stream" });
    for (let n = 0; n < 64; n++) response.write(Buffer.alloc(MIB, n));
    response.end();
  });
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  const answer = await egress.ask(LIMITS)(server.url);
  await wait(300);
  // What the kernel keeps between the two is some megabytes.
  const [socket] = server.sockets;
  expect(socket?.writableLength).toBeGreaterThan(32 * MIB);
  const bytes = await answer.bytes();
  expect(bytes.byteLength).toBe(64 * MIB);
  expect([bytes[0], bytes[63 * MIB]]).toEqual([0, 63]);
  await egress.close();
  await server.stop();
});

test("a connection is used again after an answer with a body where none belongs, and given up with one that is let go", async () => {
  const server = await startHttpServer(({ path }, response) => {
    if (path === "/reset") response.writeHead(205, { "content-length": "5" }).end("hello");
    else response.writeHead(200).write("for ever");
  });
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  for (let n = 0; n < 3; n++) {
    expect((await egress.ask(LIMITS)(`${server.url}/reset`)).status).toBe(205);
    await wait(50);
  }
  expect(server.sockets).toHaveLength(1);
  (await egress.ask(LIMITS)(`${server.url}/endless`)).discard();
  await server.firstClosed;
  await egress.close();
  await server.stop();
});

test("a body that never ends where none belongs is given up", async () => {
  const closed: number[] = [];
  const server = await startHttpServer(({ path }, response) => {
    response.on("close", () => closed.push(closed.length));
    response.writeHead(205, { "transfer-encoding": "chunked" });
    if (path === "/silent") return void response.write("x");
    const flood = () => {
      while (!response.destroyed && response.write(Buffer.alloc(MIB)));
    };
    response.on("drain", flood);
    flood();
  });
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  for (const path of ["silent", "flood"])
    expect((await egress.ask(LIMITS)(`${server.url}/${path}`)).status).toBe(205);
  await expect.poll(() => closed.length, { timeout: 10_000 }).toBe(2);
  await egress.close();
  await server.stop();
});

test("an answer of many small pieces is kept as its bytes alone", async () => {
  const piece = new Uint8Array(1);
  let n = 0;
  // The same piece each time: whoever keeps it for itself reads the last byte everywhere.
  const whole = await wholeOf(async () => {
    if (n === 100_000) return null;
    piece[0] = n++ % 251;
    return piece;
  });
  expect(whole.byteLength).toBe(100_000);
  expect(whole.findIndex((byte, at) => at > 0 && byte !== at % 251)).toBe(-1);
});
