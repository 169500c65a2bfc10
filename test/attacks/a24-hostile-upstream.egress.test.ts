import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { createServer, type Socket } from "node:net";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { EgressError, type EgressLimits } from "../../src/upstream/egress.ts";
import { startHttpServer } from "../helpers/http-server.ts";

// A24, what egress stops: bodies without end, bombs, drips, depth. Every attack here would go on for ever or fill the
// memory; every test waits until the attacker's connection is gone.

const MEGABYTE = 1_048_576;
const LIMITS: EgressLimits = { totalMs: 20_000, idleMs: 10_000, maxBytes: MEGABYTE, maxDepth: 50 };
const JSON_TYPE = { "content-type": "application/json" };
const SSE_TYPE = { "content-type": "text/event-stream" };
const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function createEgress() {
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  cleanups.push(egress.close);
  return egress;
}

async function serve(handler: Parameters<typeof startHttpServer>[0]) {
  const server = await startHttpServer(handler);
  cleanups.push(server.stop);
  return server;
}

/** A server that speaks bytes. `attack` runs once a request has come; `closed` resolves when its socket is gone. */
async function serveRaw(attack: (socket: Socket) => void) {
  const closed = Promise.withResolvers<void>();
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("close", () => closed.resolve());
    socket.once("data", () => attack(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanups.push(async () => void server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { url: `http://127.0.0.1:${address.port}`, closed: closed.promise };
}

/** Writes `piece` again and again, as fast as it is taken, until the connection is gone. */
function pour(target: ServerResponse | Socket, piece: Buffer | string): void {
  const more = () => {
    while (!target.destroyed && target.writable && target.write(piece));
  };
  target.on("drain", more).on("error", () => {});
  more();
}

/** Repeats something every few milliseconds until the connection is gone. */
function drip(socket: Socket, text: string): void {
  const timer = setInterval(() => socket.write(text), 5);
  socket.on("close", () => clearInterval(timer));
}

/** Reads an answer to its end, and says why that failed and how many bytes came before. */
async function readUntilFailure(work: Promise<Response>): Promise<{ reason: string; bytes: number }> {
  let bytes = 0;
  try {
    const response = await work;
    const reader = response.body?.getReader();
    for (let next = await reader?.read(); next && !next.done; next = await reader?.read())
      bytes += next.value.length;
    return { reason: "ended", bytes };
  } catch (error) {
    if (error instanceof EgressError) return { reason: error.reason, bytes };
    throw error;
  }
}

describe("size", () => {
  test("a body of a gigabyte is cut off after the limit", async () => {
    const server = await serve((_, response) => {
      response.writeHead(200, JSON_TYPE);
      pour(response, Buffer.alloc(65_536, " "));
    });
    const { reason, bytes } = await readUntilFailure(createEgress().fetch(LIMITS)(server.url));
    expect(reason).toBe("too_large");
    expect(bytes).toBeLessThanOrEqual(MEGABYTE);
    // What lay in the sockets' buffers besides.
    expect(await server.firstClosed).toBeLessThan(32 * MEGABYTE);
  });

  test("a gigabyte that nobody reads is not fetched, and its connection ends with the call", async () => {
    const server = await serve((_, response) => pour(response, Buffer.alloc(65_536, " ")));
    await createEgress().fetch({ ...LIMITS, totalMs: 300 })(server.url);
    expect(await server.firstClosed).toBeLessThan(32 * MEGABYTE);
  });

  test("a gzip bomb stops as early: bytes count after decompression", async () => {
    // 10 KB that become 10 MB, a million times.
    const member = gzipSync(Buffer.alloc(10 * MEGABYTE));
    const server = await serve((_, response) => {
      response.writeHead(200, { ...JSON_TYPE, "content-encoding": "gzip" });
      pour(response, member);
    });
    const before = process.memoryUsage().rss;
    const { reason, bytes } = await readUntilFailure(createEgress().fetch(LIMITS)(server.url));
    expect(reason).toBe("too_large");
    expect(bytes).toBeLessThanOrEqual(MEGABYTE);
    expect(await server.firstClosed).toBeLessThan(32 * MEGABYTE);
    expect(process.memoryUsage().rss - before).toBeLessThan(256 * MEGABYTE);
  });

  test("a brotli bomb stops as early: a few hundred bytes that become 100 MB", async () => {
    const params = { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_LGWIN]: 24 };
    const bomb = brotliCompressSync(Buffer.alloc(100 * MEGABYTE), { params });
    expect(bomb.length).toBeLessThan(1_000);
    const server = await serve((_, response) => {
      response.writeHead(200, { ...JSON_TYPE, "content-encoding": "br" }).end(bomb);
    });
    const { reason, bytes } = await readUntilFailure(createEgress().fetch(LIMITS)(server.url));
    expect(reason).toBe("too_large");
    expect(bytes).toBeLessThanOrEqual(MEGABYTE);
  });

  test("an SSE stream without end stops at the limit", async () => {
    const server = await serve((_, response) => {
      response.writeHead(200, SSE_TYPE);
      pour(
        response,
        `event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message"}\n\n`.repeat(100),
      );
    });
    const { reason, bytes } = await readUntilFailure(
      createEgress().fetch({ ...LIMITS, totalMs: null })(server.url),
    );
    expect(reason).toBe("too_large");
    expect(bytes).toBeLessThanOrEqual(MEGABYTE);
    await server.firstClosed;
  });

  test("headers without end stop at the limit", async () => {
    const server = await serveRaw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      pour(socket, `x-header: ${"x".repeat(1_000)}\r\n`);
    });
    expect((await readUntilFailure(createEgress().fetch(LIMITS)(server.url))).reason).toBe("too_large");
    await server.closed;
  });
});

describe("time", () => {
  const HURRIED = { ...LIMITS, totalMs: 400 };

  test("a head that drips is given up after the total time", async () => {
    const server = await serveRaw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\nx-slow: ");
      drip(socket, "x");
    });
    expect((await readUntilFailure(createEgress().fetch(HURRIED)(server.url))).reason).toBe("timeout");
    await server.closed;
  });

  test("a body that drips never falls silent, and is given up after the total time", async () => {
    const server = await serveRaw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
      drip(socket, "x");
    });
    const { reason, bytes } = await readUntilFailure(
      createEgress().fetch({ ...HURRIED, idleMs: 200 })(server.url),
    );
    expect(reason).toBe("timeout");
    expect(bytes).toBeGreaterThan(0);
    await server.closed;
  });

  test("interim answers without end are not an answer", async () => {
    const server = await serveRaw((socket) => drip(socket, "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"));
    expect((await readUntilFailure(createEgress().fetch(HURRIED)(server.url))).reason).toBe("timeout");
    await server.closed;
  });

  test("bytes that say nothing count as silence: the extension of a chunk", async () => {
    const server = await serveRaw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;");
      drip(socket, "x");
    });
    const limits = { ...LIMITS, totalMs: null, idleMs: 300 };
    expect((await readUntilFailure(createEgress().fetch(limits)(server.url))).reason).toBe("timeout");
    await server.closed;
  });

  test("bytes that say nothing count as silence: gzip of nothing", async () => {
    const nothing = gzipSync("");
    const server = await serve((_, response) => {
      response.writeHead(200, { ...JSON_TYPE, "content-encoding": "gzip" });
      const timer = setInterval(() => response.write(nothing), 5);
      response.on("close", () => clearInterval(timer));
    });
    const limits = { ...LIMITS, totalMs: null, idleMs: 300 };
    expect((await readUntilFailure(createEgress().fetch(limits)(server.url))).reason).toBe("timeout");
    await server.firstClosed;
  });

  test("a server that hangs a hundred calls holds up nobody else", async () => {
    const hostile = await serve(() => {});
    const good = await serve((_, response) => response.end("fine"));
    const { fetch } = createEgress();
    const patience = new AbortController();
    const hung = Array.from({ length: 100 }, () => fetch(LIMITS)(hostile.url, { signal: patience.signal }));
    const ends = Promise.allSettled(hung);
    for (let call = 0; call < 10; call++) expect(await (await fetch(LIMITS)(good.url)).text()).toBe("fine");
    patience.abort();
    expect((await ends).filter(({ status }) => status === "rejected")).toHaveLength(100);
    for (const socket of hostile.sockets) if (!socket.destroyed) await once(socket, "close");
  });
});

describe("depth", () => {
  test.each([
    ["JSON", JSON_TYPE, ""],
    ["JSON without a content type", {}, ""],
    ["an SSE event", SSE_TYPE, "data: "],
    ["an SSE event after a decoy", SSE_TYPE, 'event: "\ndata: "\n\ndata: '],
  ])("%s that nests without end is cut off at the limit, long before its end", async (_, headers, start) => {
    const server = await serve((_request, response) => {
      response.writeHead(200, headers);
      response.write(start);
      pour(response, `{"a":[`.repeat(10));
    });
    const { reason, bytes } = await readUntilFailure(createEgress().fetch(LIMITS)(server.url));
    expect(reason).toBe("too_deep");
    expect(bytes).toBeLessThan(MEGABYTE);
    await server.firstClosed;
  });

  test("depth is seen through compression", async () => {
    const server = await serve((_, response) => {
      response
        .writeHead(200, { ...JSON_TYPE, "content-encoding": "gzip" })
        .end(gzipSync("[".repeat(100_000)));
    });
    expect((await readUntilFailure(createEgress().fetch(LIMITS)(server.url))).reason).toBe("too_deep");
  });
});
