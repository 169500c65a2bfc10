import { createServer } from "node:net";
import { getEventListeners, once } from "node:events";
import { setDefaultCACertificates, getCACertificates } from "node:tls";
import { brotliCompressSync, createGzip, deflateSync, gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { selfSigned } from "../helpers/certificate.ts";
import { failureOf, LIMITS } from "../helpers/egress.ts";
import { startHttpServer } from "../helpers/http-server.ts";

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function serve(...args: Parameters<typeof startHttpServer>) {
  const server = await startHttpServer(...args);
  cleanups.push(server.stop);
  return server;
}

function createEgress(options: Partial<Parameters<typeof createNodeEgress>[0]> = {}): Egress {
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [], ...options });
  cleanups.push(egress.close);
  return egress;
}

describe("a call", () => {
  test("sends method, headers and body, and brings back status, headers and body", async () => {
    const server = await serve((_, response) => {
      response
        .writeHead(
          201,
          [
            ["x-a", "1"],
            ["set-cookie", "a=1"],
            ["set-cookie", "b=2"],
          ].flat(),
        )
        .end("made");
    });
    const response = await createEgress().fetch(LIMITS)(`${server.url}/mcp?q=1`, {
      method: "put",
      headers: { "x-key": "value", "content-type": "application/json" },
      body: '{"a":"é"}',
    });
    expect(server.requests[0]).toMatchObject({ method: "PUT", path: "/mcp?q=1", body: '{"a":"é"}' });
    expect(server.requests[0]?.headers).toMatchObject({
      "x-key": "value",
      "content-type": "application/json",
    });
    expect([response.status, response.url, response.headers.get("x-a")]).toEqual([
      201,
      `${server.url}/mcp?q=1`,
      "1",
    ]);
    expect(response.headers.getSetCookie()).toEqual(["a=1", "b=2"]);
    expect(await response.text()).toBe("made");
  });

  test.each([
    [
      "a form",
      () => new URLSearchParams({ a: "1 2" }),
      "a=1+2",
      "application/x-www-form-urlencoded;charset=UTF-8",
    ],
    ["text", () => "text", "text", "text/plain;charset=UTF-8"],
    ["bytes", () => new TextEncoder().encode("bytes"), "bytes", undefined],
    ["a blob", () => new Blob(["blob"], { type: "text/x" }), "blob", "text/x"],
    ["a stream", () => new Blob(["stream"]).stream(), "stream", undefined],
  ])("sends %s as fetch does", async (_, body, sent, type) => {
    const server = await serve((_request, response) => response.end());
    await createEgress().fetch(LIMITS)(server.url, { method: "POST", body: body() });
    expect(server.requests[0]?.body).toBe(sent);
    expect(server.requests[0]?.headers["content-type"]).toBe(type);
  });

  test("keeps its connection for the next call to the same origin", async () => {
    const server = await serve((_, response) => response.end("ok"));
    const fetch = createEgress().fetch(LIMITS);
    for (let call = 0; call < 10; call++) await (await fetch(server.url)).text();
    // A call that starts in the instant in which another ends may open a second one.
    expect(server.sockets.length).toBeLessThanOrEqual(2);
  });

  test("streams: the first event arrives while the answer is still open", async () => {
    const server = await serve((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n");
    });
    const response = await createEgress().fetch({ ...LIMITS, totalMs: null })(server.url);
    const reader = response.body?.getReader();
    expect(new TextDecoder().decode((await reader?.read())?.value)).toBe("data: 1\n\n");
    await reader?.cancel();
    await server.firstClosed;
  });

  test("streams a compressed answer as it comes, too", async () => {
    const server = await serve((_, response) => {
      const gzip = createGzip();
      response.writeHead(200, { "content-type": "text/event-stream", "content-encoding": "gzip" });
      gzip.pipe(response);
      gzip.write("data: 1\n\n");
      gzip.flush();
    });
    const reader = (await createEgress().fetch(LIMITS)(server.url)).body?.getReader();
    expect(new TextDecoder().decode((await reader?.read())?.value)).toBe("data: 1\n\n");
    await reader?.cancel();
  });

  test.each([
    ["gzip", gzipSync],
    ["deflate", deflateSync],
    ["br", brotliCompressSync],
  ])("reads %s and takes the coding out of the headers", async (coding, compress) => {
    const server = await serve((_, response) => {
      response.writeHead(200, { "content-encoding": coding }).end(compress("plain words"));
    });
    const response = await createEgress().fetch(LIMITS)(server.url);
    expect(response.headers.get("content-encoding")).toBeNull();
    expect(await response.text()).toBe("plain words");
  });

  test.each([202, 204, 304])(
    "with an empty answer of status %i leaves the connection usable",
    async (status) => {
      const server = await serve((_, response) =>
        response.writeHead(status, { "content-length": "0" }).end(),
      );
      const fetch = createEgress().fetch(LIMITS);
      for (let call = 0; call < 10; call++) expect((await fetch(server.url)).body).toBeNull();
      expect(server.sockets.length).toBeLessThanOrEqual(2);
    },
  );

  test("of HEAD has no body, whatever its headers announce", async () => {
    const server = await serve((_, response) =>
      response.writeHead(200, { "content-length": "9999999" }).end(),
    );
    const response = await createEgress().fetch(LIMITS)(server.url, { method: "HEAD" });
    expect([response.status, response.body]).toEqual([200, null]);
  });

  test("ignores a Host header: the URL alone says whom it talks to", async () => {
    const server = await serve((_, response) => response.end());
    await createEgress().fetch(LIMITS)(server.url, { headers: { host: "admin.internal" } });
    expect(server.requests[0]?.headers.host).toBe(`127.0.0.1:${server.port}`);
  });
});

describe("TLS", () => {
  test("verifies the host's name although the socket was given an address", async () => {
    const good = selfSigned("mcp.example.com");
    const before = getCACertificates("default");
    setDefaultCACertificates([...before, good.cert]);
    cleanups.push(async () => setDefaultCACertificates(before));
    const server = await serve((_, response) => response.end("hello"), good);
    const egress = createEgress({
      allow: parseEgressAllow("*.example.com"),
      lookup: async () => [{ address: "127.0.0.1", family: 4 }],
    });
    const response = await egress.fetch(LIMITS)(`https://mcp.example.com:${server.port}/`);
    expect(await response.text()).toBe("hello");
    const failure = await failureOf(egress.fetch(LIMITS)(`https://other.example.com:${server.port}/`));
    expect(failure).toMatchObject({ reason: "tls", cause: { code: "ERR_TLS_CERT_ALTNAME_INVALID" } });
    // A Host header must not choose which name is verified.
    const forged = egress.fetch(LIMITS)(`https://other.example.com:${server.port}/`, {
      headers: { host: "mcp.example.com" },
    });
    expect((await failureOf(forged)).reason).toBe("tls");
    expect(server.requests).toHaveLength(1);
  });

  test("refuses a certificate that nobody signed", async () => {
    const server = await serve((_, response) => response.end(), selfSigned("localhost"));
    const failure = await failureOf(createEgress().fetch(LIMITS)(`https://localhost:${server.port}/`));
    expect(failure).toMatchObject({ reason: "tls", cause: { code: "DEPTH_ZERO_SELF_SIGNED_CERT" } });
  });

  test("says tls when the other side does not speak it or hangs up", async () => {
    const server = await serve((_, response) => response.end());
    const fetch = createEgress().fetch(LIMITS);
    expect((await failureOf(fetch(`https://127.0.0.1:${server.port}/`))).reason).toBe("tls");
    const rude = createServer((socket) => socket.on("data", () => socket.resetAndDestroy())).listen(
      0,
      "127.0.0.1",
    );
    await once(rude, "listening");
    const address = rude.address();
    const port = typeof address === "object" ? address?.port : 0;
    expect((await failureOf(fetch(`https://127.0.0.1:${port}/`))).reason).toBe("tls");
    rude.close();
  });
});

describe("a failure says what happened", () => {
  test("dns: the name does not resolve, or has no address", async () => {
    const lookup = async () => {
      throw Object.assign(new Error("getaddrinfo ENOTFOUND"), { code: "ENOTFOUND" });
    };
    const failure = await failureOf(
      createEgress({ lookup }).fetch(LIMITS)("https://gone.example.com/secret?q"),
    );
    expect(failure).toMatchObject({
      reason: "dns",
      message: "The name gone.example.com does not resolve.",
      cause: { code: "ENOTFOUND" },
    });
    const empty = createEgress({ lookup: async () => [] }).fetch(LIMITS)("https://gone.example.com/");
    expect((await failureOf(empty)).reason).toBe("dns");
  });

  test("connect: nobody listens", async () => {
    const server = await startHttpServer((_, response) => response.end());
    await server.stop();
    expect(await failureOf(createEgress().fetch(LIMITS)(server.url))).toMatchObject({
      reason: "connect",
      cause: { code: "ECONNREFUSED" },
    });
  });

  test("connect: the look-up and the connection take too long", async () => {
    const egress = createEgress({ connectMs: 200, lookup: () => new Promise(() => {}) });
    expect((await failureOf(egress.fetch(LIMITS)("https://slow.example.com/"))).reason).toBe("connect");
  });

  test("closed: the connection ends before the answer, or in the middle of it", async () => {
    const server = await serve(({ path }, response) => {
      if (path === "/middle") response.writeHead(200, { "content-length": "100" }).write("part");
      setImmediate(() => response.socket?.destroy());
    });
    const fetch = createEgress().fetch(LIMITS);
    expect((await failureOf(fetch(server.url))).reason).toBe("closed");
    const middle = await fetch(`${server.url}/middle`);
    expect((await failureOf(middle.text())).reason).toBe("closed");
  });

  test("closed: the answer is not HTTP", async () => {
    const server = createServer((socket) => socket.end("SSH-2.0-OpenSSH\r\n\r\n")).listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    const port = typeof address === "object" ? address?.port : 0;
    const failure = await failureOf(createEgress().fetch(LIMITS)(`http://127.0.0.1:${port}/`));
    expect(failure).toMatchObject({
      reason: "closed",
      message: `127.0.0.1:${port} answered with something that is not HTTP.`,
    });
    expect(JSON.stringify(failure.cause)).not.toContain("OpenSSH");
    server.close();
  });

  test.each([
    ["damaged", { "content-encoding": "gzip" }, Buffer.from("not gzip")],
    ["cut off", { "content-encoding": "gzip" }, gzipSync("x".repeat(1000)).subarray(0, 20)],
    ["damaged", { "content-encoding": "br" }, Buffer.from("not brotli")],
  ])("closed: a compressed answer is %s", async (_, headers, body) => {
    const server = await serve((_request, response) => response.writeHead(200, headers).end(body));
    const response = await createEgress().fetch(LIMITS)(server.url);
    expect(await failureOf(response.text())).toMatchObject({
      reason: "closed",
      message: `The compressed answer of 127.0.0.1:${server.port} is damaged.`,
    });
  });

  test.each(["zstd", "gzip, gzip", "compress"])("closed: the coding %s was not asked for", async (coding) => {
    const server = await serve((_, response) =>
      response.writeHead(200, { "content-encoding": coding }).end("x"),
    );
    expect((await failureOf(createEgress().fetch(LIMITS)(server.url))).reason).toBe("closed");
  });

  test("closed: the status is none", async () => {
    const server = await serve((_, response) => response.writeHead(999).end("x"));
    expect((await failureOf(createEgress().fetch(LIMITS)(server.url))).message).toContain("status 999");
  });

  test("refused: headers that cannot be sent, and their values stay out of the message", async () => {
    const server = await serve((_, response) => response.end());
    const fetch = createEgress().fetch(LIMITS);
    for (const headers of [
      { "x-key": "canary\r\nx-evil: 1" },
      { "bad name": "canary" },
      { "x-key": "canary☃" },
    ]) {
      const failure = await failureOf(fetch(server.url, { headers }));
      expect(failure.reason).toBe("refused");
      expect(JSON.stringify([failure.message, failure.stack, String(failure.cause)])).not.toContain("canary");
    }
    const hopByHop = await failureOf(fetch(server.url, { headers: { "transfer-encoding": "chunked" } }));
    expect(hopByHop.reason).toBe("refused");
    expect((await failureOf(fetch(server.url, { method: "CONNECT" }))).reason).toBe("refused");
    expect(server.requests).toHaveLength(0);
  });

  test("and no message holds path, query, header or body", async () => {
    const server = await serve((_, response) =>
      response.writeHead(200, { "content-length": "9999999" }).end(),
    );
    const work = createEgress().fetch(LIMITS)(`${server.url}/path-canary?query-canary`, {
      method: "POST",
      headers: { authorization: "header-canary" },
      body: "body-canary",
    });
    expect((await failureOf(work)).message).toBe(
      `127.0.0.1:${server.port} answered with more than 1000000 bytes.`,
    );
  });
});

describe("limits", () => {
  test("bytes: a body of exactly the limit passes, one more does not", async () => {
    const server = await serve(
      ({ path }, response) => response.write("x".repeat(Number(path.slice(1)))) && response.end(),
    );
    const fetch = createEgress().fetch({ ...LIMITS, maxBytes: 1000 });
    expect((await (await fetch(`${server.url}/1000`)).text()).length).toBe(1000);
    expect((await failureOf((await fetch(`${server.url}/1001`)).text())).reason).toBe("too_large");
  });

  test("bytes: an announced size is believed at once", async () => {
    const server = await serve((_, response) =>
      response.writeHead(200, { "content-length": "1001" }).write("x"),
    );
    expect((await failureOf(createEgress().fetch({ ...LIMITS, maxBytes: 1000 })(server.url))).reason).toBe(
      "too_large",
    );
    await server.firstClosed;
  });

  test("head: larger than allowed is too large", async () => {
    const server = await serve(({ path }, response) =>
      response.writeHead(200, { "x-long": "x".repeat(path === "/large" ? 40_000 : 20_000) }).end(),
    );
    const fetch = createEgress().fetch(LIMITS);
    expect((await failureOf(fetch(`${server.url}/large`))).reason).toBe("too_large");
    expect((await fetch(server.url)).status).toBe(200);
  });

  test("total: an answer that never begins ends the call", async () => {
    const server = await serve(() => {});
    const failure = await failureOf(createEgress().fetch({ ...LIMITS, totalMs: 150 })(server.url));
    expect(failure).toMatchObject({
      reason: "timeout",
      message: `127.0.0.1:${server.port} did not finish within 150 ms.`,
    });
    await server.firstClosed;
  });

  test("total: a look-up that never ends does not hold the call", async () => {
    const egress = createEgress({ lookup: () => new Promise(() => {}) });
    expect(
      (await failureOf(egress.fetch({ ...LIMITS, totalMs: 100 })("https://slow.example.com/"))).reason,
    ).toBe("timeout");
  });

  test("idle: without a total, silence before the head counts", async () => {
    const server = await serve(() => {});
    const failure = await failureOf(
      createEgress().fetch({ ...LIMITS, totalMs: null, idleMs: 100 })(server.url),
    );
    expect(failure).toMatchObject({
      reason: "timeout",
      message: `127.0.0.1:${server.port} was silent for 100 ms.`,
    });
  });

  test("idle: silence within the answer ends it", async () => {
    const server = await serve((_, response) => response.write("x"));
    const response = await createEgress().fetch({ ...LIMITS, idleMs: 100 })(server.url);
    expect(await failureOf(response.text())).toMatchObject({ reason: "timeout" });
    await server.firstClosed;
  });

  test("idle: a slow reader is no silence, before the first read or between two", async () => {
    const server = await serve(({ path }, response) => {
      response.write("x");
      setTimeout(() => response.end("y"), Number(path.slice(1)));
    });
    const response = await createEgress().fetch({ ...LIMITS, totalMs: null, idleMs: 100 })(
      `${server.url}/50`,
    );
    const longer = () => new Promise((resolve) => setTimeout(resolve, 200));
    await longer();
    const reader = response.body?.getReader();
    const words: string[] = [];
    for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) {
      words.push(new TextDecoder().decode(next.value));
      await longer();
    }
    expect(words.join("")).toBe("xy");
  });
});

describe("the caller's signal", () => {
  test.each([
    ["before the call", "/", 0],
    ["while the head is awaited", "/", 50],
    ["while the name is looked up", "name", 50],
  ])("ends the call %s, with its own reason", async (_, where, afterMs) => {
    const server = await serve(() => {});
    const egress = createEgress({ lookup: () => new Promise(() => {}) });
    const controller = new AbortController();
    const reason = new Error("the user left");
    if (afterMs === 0) controller.abort(reason);
    const url = where === "name" ? "https://slow.example.com/" : server.url;
    const work = egress.fetch(LIMITS)(url, { signal: controller.signal });
    if (afterMs > 0) setTimeout(() => controller.abort(reason), afterMs);
    await expect(work).rejects.toBe(reason);
  });

  test.each(["plain", "gzip"])(
    "ends the reading of a %s body, with its own reason, and the connection",
    async (coding) => {
      const server = await serve((_, response) => {
        if (coding === "plain") response.write("x");
        else response.writeHead(200, { "content-encoding": "gzip" }).write(gzipSync("x"));
      });
      const controller = new AbortController();
      const response = await createEgress().fetch(LIMITS)(server.url, { signal: controller.signal });
      const work = response.text();
      setTimeout(() => controller.abort(), 50);
      await expect(work).rejects.toMatchObject({ name: "AbortError" });
      await server.firstClosed;
    },
  );

  test("an abort between two reads shows at the next one", async () => {
    const server = await serve((_, response) => response.write("x"));
    const controller = new AbortController();
    const response = await createEgress().fetch(LIMITS)(server.url, { signal: controller.signal });
    const reader = response.body?.getReader();
    await reader?.read();
    controller.abort();
    await server.firstClosed;
    await expect(reader?.read()).rejects.toMatchObject({ name: "AbortError" });
  });

  test.each(["plain", "gzip"])(
    "ends a %s body that nobody reads, without an error that nobody catches",
    async (coding) => {
      const server = await serve((_, response) => {
        if (coding === "gzip") response.setHeader("content-encoding", "gzip");
        response.write(coding === "gzip" ? gzipSync("x".repeat(1000)).subarray(0, 15) : "x");
      });
      const uncaught: unknown[] = [];
      const note = (error: unknown) => uncaught.push(error);
      process.on("unhandledRejection", note).on("uncaughtException", note);
      const controller = new AbortController();
      const response = await createEgress().fetch(LIMITS)(server.url, { signal: controller.signal });
      controller.abort();
      await server.firstClosed;
      await new Promise((resolve) => setImmediate(resolve));
      process.off("unhandledRejection", note).off("uncaughtException", note);
      expect([response.status, uncaught]).toEqual([200, []]);
    },
  );

  test("leaves nothing behind on a signal that outlives many calls", async () => {
    const server = await serve((_, response) => response.end("ok"));
    const fetch = createEgress().fetch(LIMITS);
    const { signal } = new AbortController();
    for (let call = 0; call < 20; call++) await (await fetch(server.url, { signal })).text();
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });
});

describe("closing", () => {
  test("ends what is under way, and its sockets", async () => {
    const server = await serve(({ path }, response) => path === "/body" && response.write("x"));
    const egress = createEgress();
    const waiting = failureOf(egress.fetch(LIMITS)(server.url));
    const body = await egress.fetch(LIMITS)(`${server.url}/body`);
    const reading = failureOf(body.text());
    await egress.close();
    expect([(await waiting).reason, (await reading).reason]).toEqual(["closed", "closed"]);
    for (const socket of server.sockets) if (!socket.destroyed) await once(socket, "close");
    expect((await failureOf(egress.fetch(LIMITS)(server.url))).reason).toBe("closed");
  });
});
