// The way out by `fetch`, on Node's own; in workerd it is test/worker that calls.
import { getEventListeners } from "node:events";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { checkUrl } from "../../src/upstream/egress-rules.ts";
import { createWebEgress } from "../../src/upstream/egress.web.ts";
import { EgressError, type Egress } from "../../src/upstream/egress.ts";
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

function createEgress(options: Partial<Parameters<typeof createWebEgress>[0]> = {}): Egress {
  const egress = createWebEgress({ allow: parseEgressAllow("loopback"), own: [], ...options });
  cleanups.push(egress.close);
  return egress;
}

describe("only who is named is called", () => {
  const rulesOf = (allow: string) => ({ allow: parseEgressAllow(allow), own: [], onlyNamed: true });

  test("a public host that nobody named is refused, and the sentence says what would allow it", async () => {
    const failure = await failureOf(
      createEgress({ allow: parseEgressAllow("mcp.example.com") }).fetch(LIMITS)(
        "https://other.example.com/",
      ),
    );
    expect(failure.reason).toBe("refused");
    expect(failure.message).toContain("add other.example.com to CONSENTRY_EGRESS_ALLOW");
  });

  test.each([
    ["mcp.example.com", "https://mcp.example.com/mcp"],
    ["*.example.com", "https://a.b.example.com/mcp"],
    ["203.0.113.0/24", "https://203.0.113.7/mcp"],
    ["http://plain.example.com", "http://plain.example.com/mcp"],
  ])("%s names %s", (allow, url) => {
    expect(checkUrl(url, rulesOf(allow)).href).toBe(url);
  });

  test.each([
    ["*", "https://mcp.example.com/"],
    ["*.example.com", "https://example.com/"],
    ["example.com", "https://mcp.example.com/"],
    ["example.com", "https://example.com.evil.test/"],
    ["mcp.example.com", "http://mcp.example.com/"],
    ["mcp.example.com", "https://169.254.169.254/"],
    ["*.internal", "https://metadata.google.internal/"],
    ["10.0.0.0/8", "https://inside.example.com/"],
  ])("%s does not name %s", (allow, url) => {
    expect(() => checkUrl(url, rulesOf(allow))).toThrow(EgressError);
  });

  test("not even where somebody is named that is the broker itself", () => {
    const rules = { ...rulesOf("*.example.com"), own: [{ host: "broker.example.com", port: 443 }] };
    expect(() => checkUrl("https://broker.example.com/", rules)).toThrow("is this broker itself");
  });

  test("a redirect to another origin is not followed, one within it is, and is checked", async () => {
    const server = await serve(({ path }, response) => {
      if (path === "/within") return response.writeHead(307, { location: "/there" }).end();
      if (path === "/away") return response.writeHead(307, { location: "http://127.0.0.2:1/" }).end();
      return response.end("there");
    });
    const fetch = createEgress().fetch(LIMITS);
    expect(await (await fetch(`${server.url}/within`, { method: "POST", body: "x" })).text()).toBe("there");
    expect(server.requests.at(-1)).toMatchObject({ method: "POST", path: "/there", body: "x" });
    expect((await failureOf(fetch(`${server.url}/away`))).reason).toBe("refused");
    const manual = await fetch(`${server.url}/away`, { redirect: "manual" });
    expect([manual.status, manual.headers.get("location")]).toEqual([307, "http://127.0.0.2:1/"]);
  });
});

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
      headers: { "x-key": "value", "content-type": "application/json", host: "admin.internal" },
      body: '{"a":"é"}',
    });
    expect(server.requests[0]).toMatchObject({ method: "PUT", path: "/mcp?q=1", body: '{"a":"é"}' });
    expect(server.requests[0]?.headers).toMatchObject({
      "x-key": "value",
      "content-type": "application/json",
      host: `127.0.0.1:${server.port}`,
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
    ["a form", () => new URLSearchParams({ a: "1 2" }), "a=1+2"],
    ["bytes", () => new TextEncoder().encode("bytes"), "bytes"],
    ["a stream", () => new Blob(["stream"]).stream(), "stream"],
  ])("sends %s", async (_, body, sent) => {
    const server = await serve((_request, response) => response.end());
    await createEgress().fetch(LIMITS)(server.url, { method: "POST", body: body() });
    expect(server.requests[0]?.body).toBe(sent);
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

  test("reads what is compressed, and takes the coding out of the headers", async () => {
    const server = await serve((_, response) => {
      response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync("plain words"));
    });
    const response = await createEgress().fetch(LIMITS)(server.url);
    expect(response.headers.get("content-encoding")).toBeNull();
    expect(await response.text()).toBe("plain words");
  });

  test.each([202, 204, 304])("with an empty answer of status %i has no body", async (status) => {
    const server = await serve((_, response) => response.writeHead(status, { "content-length": "0" }).end());
    expect((await createEgress().fetch(LIMITS)(server.url)).body).toBeNull();
  });

  test("tells the runtime of all that it waits for", async () => {
    const server = await serve((_, response) => response.end("ok"));
    const kept: Promise<unknown>[] = [];
    const egress = createEgress({ keep: (work) => (kept.push(work), work) });
    await (await egress.fetch(LIMITS)(server.url)).text();
    // The head, the bytes, and that there are no more.
    expect(kept.length).toBeGreaterThanOrEqual(3);
  });
});

describe("a failure", () => {
  test("closed: nobody listens, or the connection ends; nobody knows whether it was sent", async () => {
    const gone = await startHttpServer((_, response) => response.end());
    await gone.stop();
    const fetch = createEgress().fetch(LIMITS);
    expect((await failureOf(fetch(gone.url))).reason).toBe("closed");
    const server = await serve((_, response) => {
      response.writeHead(200, { "content-length": "100" }).write("part");
      setImmediate(() => response.socket?.destroy());
    });
    expect((await failureOf((await fetch(server.url)).text())).reason).toBe("closed");
  });

  test("closed: a compressed answer is damaged", async () => {
    const server = await serve((_, response) =>
      response.writeHead(200, { "content-encoding": "gzip" }).end("not gzip"),
    );
    const work = createEgress()
      .fetch(LIMITS)(server.url)
      .then((response) => response.text());
    expect((await failureOf(work)).reason).toBe("closed");
  });

  test("refused: headers that cannot be sent, and their values stay out of the message", async () => {
    const server = await serve((_, response) => response.end());
    const fetch = createEgress().fetch(LIMITS);
    for (const headers of [
      { "x-key": "canary\r\nx-evil: 1" },
      { "x-key": "canary☃" },
      { "transfer-encoding": "chunked" },
      { connection: "x-key" },
    ]) {
      const failure = await failureOf(fetch(server.url, { headers }));
      expect(failure.reason).toBe("refused");
      expect(JSON.stringify([failure.message, failure.stack, String(failure.cause)])).not.toContain("canary");
    }
    expect((await failureOf(fetch(server.url, { method: "CONNECT" }))).reason).toBe("refused");
    expect(server.requests).toHaveLength(0);
  });
});

describe("limits", () => {
  test("bytes: a body of exactly the limit passes, one more does not, and an announced size is believed", async () => {
    const server = await serve(({ path }, response) => {
      if (path === "/announced") response.writeHead(200, { "content-length": "1001" });
      return response.write("x".repeat(Number(path.slice(1)) || 1)) && response.end();
    });
    const fetch = createEgress().fetch({ ...LIMITS, maxBytes: 1000 });
    expect((await (await fetch(`${server.url}/1000`)).text()).length).toBe(1000);
    expect((await failureOf((await fetch(`${server.url}/1001`)).text())).reason).toBe("too_large");
    expect((await failureOf(fetch(`${server.url}/announced`))).reason).toBe("too_large");
  });

  test("bytes: a bomb is measured as it is unpacked", async () => {
    const server = await serve((_, response) =>
      response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync("x".repeat(100_000))),
    );
    const response = await createEgress().fetch({ ...LIMITS, maxBytes: 1000 })(server.url);
    expect((await failureOf(response.text())).reason).toBe("too_large");
  });

  test("head: larger than allowed is too large", async () => {
    const server = await serve((_, response) =>
      response.writeHead(200, { "x-long": "x".repeat(12_000) }).end(),
    );
    const egress = createEgress({ maxHeaderBytes: 10_000 });
    expect((await failureOf(egress.fetch(LIMITS)(server.url))).reason).toBe("too_large");
    expect((await createEgress().fetch(LIMITS)(server.url)).status).toBe(200);
  });

  test("time: an answer that never begins, and one that falls silent, end the call and the connection", async () => {
    const server = await serve(({ path }, response) => path === "/body" && response.write("x"));
    const fetch = createEgress().fetch;
    expect((await failureOf(fetch({ ...LIMITS, totalMs: 150 })(server.url))).reason).toBe("timeout");
    await server.firstClosed;
    const response = await fetch({ ...LIMITS, idleMs: 100 })(`${server.url}/body`);
    expect((await failureOf(response.text())).reason).toBe("timeout");
  });
});

describe("the caller's signal", () => {
  test.each([
    ["before the call", 0],
    ["while the head is awaited", 50],
  ])("ends the call %s, with its own reason", async (_, afterMs) => {
    const server = await serve(() => {});
    const controller = new AbortController();
    const reason = new Error("the user left");
    if (afterMs === 0) controller.abort(reason);
    const work = createEgress().fetch(LIMITS)(server.url, { signal: controller.signal });
    if (afterMs > 0) setTimeout(() => controller.abort(reason), afterMs);
    await expect(work).rejects.toBe(reason);
  });

  test("ends the reading of a body, with its own reason, and the connection", async () => {
    const server = await serve((_, response) => response.write("x"));
    const controller = new AbortController();
    const response = await createEgress().fetch(LIMITS)(server.url, { signal: controller.signal });
    const work = response.text();
    setTimeout(() => controller.abort(), 50);
    await expect(work).rejects.toMatchObject({ name: "AbortError" });
    await server.firstClosed;
  });

  test("ends a body that nobody reads, without an error that nobody catches", async () => {
    const server = await serve((_, response) => response.write("x"));
    const uncaught: unknown[] = [];
    const note = (error: unknown) => uncaught.push(error);
    process.on("unhandledRejection", note).on("uncaughtException", note);
    const controller = new AbortController();
    await createEgress().fetch(LIMITS)(server.url, { signal: controller.signal });
    controller.abort();
    await server.firstClosed;
    await new Promise((resolve) => setImmediate(resolve));
    process.off("unhandledRejection", note).off("uncaughtException", note);
    expect(uncaught).toEqual([]);
  });

  test("leaves nothing behind on a signal that outlives many calls", async () => {
    const server = await serve((_, response) => response.end("ok"));
    const fetch = createEgress().fetch(LIMITS);
    const { signal } = new AbortController();
    for (let call = 0; call < 20; call++) await (await fetch(server.url, { signal })).text();
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });
});

test("closing ends what is under way", async () => {
  const server = await serve(({ path }, response) => path === "/body" && response.write("x"));
  const egress = createEgress();
  const waiting = failureOf(egress.fetch(LIMITS)(server.url));
  const reading = failureOf((await egress.fetch(LIMITS)(`${server.url}/body`)).text());
  await egress.close();
  expect([(await waiting).reason, (await reading).reason]).toEqual(["closed", "closed"]);
});
