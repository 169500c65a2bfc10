import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
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
