// deploy/compose/nginx.conf in a real nginx, before servers that behave well and badly.
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { parseEnv } from "node:util";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { MAX_BODY_BYTES } from "../../src/http/body.ts";
import { readCompose, recipe } from "../helpers/deploy.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";
import { hasNginx, type Proxy, startNginx } from "../helpers/nginx.ts";
import { freePorts } from "../helpers/ports.ts";

type Answer = Parameters<Parameters<typeof startHttpServer>[0]>[1];

/** What the replicas do with a request. */
let behave: (response: Answer) => void;
let replicas: HttpServer[] = [];
let proxy: Proxy;

const seen = () => replicas.flatMap(({ requests }) => requests);
/** An answer part by part, as it comes; null: that was all. */
function partsOf({ body }: Awaited<ReturnType<Proxy["fetch"]>>): () => Promise<string | null> {
  const reader = body?.getReader();
  return async () => {
    const { value } = (await reader?.read()) ?? {};
    return value === undefined ? null : Buffer.from(value).toString();
  };
}
const says = (text: string) => (response: Answer) => void response.end(text);

describe.skipIf(!hasNginx)("before three replicas", () => {
  beforeAll(async () => {
    replicas = await Promise.all([1, 2, 3].map(() => startHttpServer((_, response) => behave(response))));
    proxy = await startNginx(replicas.map(({ port }) => port));
  });
  beforeEach(() => {
    behave = says("ok");
    for (const { requests } of replicas) requests.length = 0;
  });
  afterAll(async () => {
    await proxy?.stop();
    await Promise.all(replicas.map((replica) => replica.stop()));
  });

  test("every replica has its share, on connections that are used again", async () => {
    for (let n = 0; n < 30; n++) await (await proxy.fetch(`${proxy.url}/readyz`)).text();
    expect(replicas.map(({ requests }) => requests.length > 0)).toEqual([true, true, true]);
    // Two workers with a connection to each; some more, should one have been idle for too long on a busy machine.
    expect(replicas.flatMap(({ sockets }) => sockets).length).toBeLessThan(15);
  });

  test("an event goes on as it comes, whatever the answer says of buffering", async () => {
    const more = Promise.withResolvers<void>();
    behave = (response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
      void more.promise.then(() => response.end("data: 2\n\n"));
    };
    const next = partsOf(await proxy.fetch(`${proxy.url}/v1/responses`, { method: "POST", body: "{}" }));
    // Were it kept back, this would wait for ever.
    expect(await next()).toBe("data: 1\n\n");
    more.resolve();
    expect(await next()).toBe("data: 2\n\n");
    expect(await next()).toBeNull();
  });

  test("a caller who hangs up is gone for the replica, too", async () => {
    const left = Promise.withResolvers<void>();
    behave = (response) => {
      response.on("close", () => left.resolve());
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n");
    };
    const caller = new AbortController();
    const init = { method: "POST", body: "{}", signal: caller.signal };
    await partsOf(await proxy.fetch(`${proxy.url}/v1/responses`, init))();
    caller.abort();
    await expect(left.promise).resolves.toBeUndefined();
  });

  test("a POST that went out is never sent a second time", async () => {
    behave = (response) => void response.socket?.destroy();
    const answer = await proxy.fetch(`${proxy.url}/v1/responses`, { method: "POST", body: "{}" });
    expect([answer.status, seen().length]).toEqual([502, 1]);
  });

  test("a GET is, to a replica that lives", async () => {
    let first = true;
    behave = (response) => {
      if (!first) return says("ok")(response);
      first = false;
      response.socket?.destroy();
    };
    const answer = await proxy.fetch(`${proxy.url}/v1/responses/resp_1`);
    expect([answer.status, await answer.text(), seen().length]).toEqual([200, "ok", 2]);
  });

  test("an answer of a replica that cannot work is passed on, and nobody else asked", async () => {
    behave = (response) => void response.writeHead(503).end("later");
    const answer = await proxy.fetch(`${proxy.url}/v1/responses`, { method: "POST", body: "{}" });
    expect([answer.status, await answer.text(), seen().length]).toEqual([503, "later", 1]);
  });

  test("a body of 4 MiB goes through, and a larger one is refused in the words of the API", async () => {
    const post = (bytes: number) =>
      proxy.fetch(`${proxy.url}/v1/responses`, { method: "POST", body: "x".repeat(bytes) });
    expect((await post(MAX_BODY_BYTES)).status).toBe(200);
    expect(seen()[0]?.body.length).toBe(MAX_BODY_BYTES);
    const refused = await post(MAX_BODY_BYTES + 1);
    expect([refused.status, refused.headers.get("content-type")]).toEqual([413, "application/json"]);
    expect(await refused.json()).toMatchObject({ error: { type: "invalid_request_error" } });
    expect(seen().length).toBe(1);
  });

  test("the replica hears the name that the client used, and an id that the log has, too", async () => {
    await proxy.fetch(`${proxy.url}/healthz`);
    await proxy.fetch(`${proxy.url}/healthz`, { headers: { "x-request-id": "mine-1" } });
    await proxy.fetch(`${proxy.url}/healthz`, { headers: { "x-request-id": "not one" } });
    const [made, kept, replaced] = seen().map(({ headers }) => String(headers["x-request-id"]));
    expect(seen().map(({ headers }) => headers.host)).toEqual(
      Array.from({ length: 3 }, () => new URL(proxy.url).host),
    );
    expect([made, kept, replaced]).toEqual([
      expect.stringMatching(/^[0-9a-f]{32}$/),
      "mine-1",
      expect.stringMatching(/^[0-9a-f]{32}$/),
    ]);
    const logged = await proxy.logged();
    expect([made, kept, replaced].filter((id) => !logged.includes(`"requestId":"${id}"`))).toEqual([]);
  });

  test("metrics are not asked from outside, and http leads to https", async () => {
    expect((await proxy.fetch(`${proxy.url}/metrics`)).status).toBe(404);
    const plain = await fetch(`http://127.0.0.1:${proxy.httpPort}/me/default`, { redirect: "manual" });
    expect([plain.status, plain.headers.get("location")]).toEqual([301, "https://127.0.0.1/me/default"]);
    expect(seen()).toEqual([]);
  });

  test("one visitor who reloads is told to wait, and no other, nor any caller", async () => {
    const ask = async (from: string, path: string) => {
      const dispatcher = proxy.agent(from);
      const answers = Array.from({ length: 200 }, async () => {
        const answer = await proxy.fetch(`${proxy.url}${path}`, { dispatcher });
        await answer.text();
        return answer.status;
      });
      return new Set(await Promise.all(answers));
    };
    expect(await ask("127.0.0.2", "/me/default")).toEqual(new Set([200, 429]));
    expect(await ask("127.0.0.2", "/v1/responses/resp_1")).toEqual(new Set([200]));
    const other = await proxy.fetch(`${proxy.url}/consent/t`, { dispatcher: proxy.agent("127.0.0.3") });
    expect(other.status).toBe(200);
    const logged = await proxy.logged();
    const clients = [...logged.matchAll(/"client":"([^"]+)"/g)].map(([, client]) => client);
    expect([...new Set(clients)]).toEqual(expect.arrayContaining(["127.0.0.2", "127.0.0.3"]));
  });

  test("no ticket, code, state or key is in its logs, also when all replicas are gone", async () => {
    behave = (response) => void response.socket?.destroy();
    const headers = { "api-key": "hidden-key", referer: "https://elsewhere.example/hidden-page" };
    const paths = [
      "/consent/hidden-ticket",
      "/consent/continue/hidden-token",
      "/oauth/callback/hidden-id?code=hidden-code&state=hidden-state",
      "//oauth/callback/hidden-id?code=hidden-code",
      "/%6fauth/callback/hidden-id?code=hidden-code",
      "/signin/callback?code=hidden-code",
      "/me/default/link/hidden-link",
      "/v1/responses?token=hidden-query",
    ];
    for (const path of paths) {
      const answer = await proxy.fetch(`${proxy.url}${path}`, { headers });
      expect([path, answer.status]).toEqual([path, 502]);
    }
    const logged = await proxy.logged();
    expect(logged.includes('"path":"/oauth/callback/…","status":502')).toBe(true);
    expect(logged.split("\n").filter((line) => line.includes("hidden"))).toEqual([]);
  });
});

describe.skipIf(!hasNginx)("when a replica is gone", () => {
  test("its calls are made by the others, each once", async () => {
    const lives = await startHttpServer((_, response) => void response.end("ok"));
    const [gone = 0, goneToo = 0] = await freePorts(2);
    const alone = await startNginx([gone, lives.port, goneToo]);
    try {
      const post = () => alone.fetch(`${alone.url}/v1/responses`, { method: "POST", body: "{}" });
      const statuses = await Promise.all(Array.from({ length: 12 }, async () => (await post()).status));
      expect(new Set(statuses)).toEqual(new Set([200]));
      expect(lives.requests.length).toBe(12);
    } finally {
      await alone.stop();
      await lives.stop();
    }
  });

  test("a stop lets a stream end", async () => {
    const more = Promise.withResolvers<void>();
    const server = await startHttpServer((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n");
      void more.promise.then(() => response.end("data: 2\n\n"));
    });
    const proxied = await startNginx([server.port, server.port, server.port]);
    try {
      const post = { method: "POST", body: "{}" };
      const next = partsOf(await proxied.fetch(`${proxied.url}/v1/responses`, post));
      expect(await next()).toBe("data: 1\n\n");
      const stopped = proxied.quit();
      await pause(100);
      more.resolve();
      expect(await next()).toBe("data: 2\n\n");
      await stopped;
    } finally {
      await proxied.stop();
      await server.stop();
    }
  });
});

test.skipIf(!hasNginx)(
  "one address that asks the API without end is told to wait, and no other",
  async () => {
    const server = await startHttpServer((_, response) => void response.end("ok"));
    // As slow as no machine is, so that what is allowed at once is all.
    const rate: [string, string] = ["zone=callers:10m rate=500r/s", "zone=callers:10m rate=1r/m"];
    const proxied = await startNginx([server.port, server.port, server.port], { differs: [rate] });
    try {
      const dispatcher = proxied.agent("127.0.0.4");
      const statuses: number[] = [];
      const asking = Array.from({ length: 16 }, async () => {
        while (statuses.length < 1100) {
          const answer = await proxied.fetch(`${proxied.url}/v1/responses`, { dispatcher });
          await answer.text();
          statuses.push(answer.status);
        }
      });
      await Promise.all(asking);
      expect(statuses.filter((status) => status === 200).length).toBe(1001);
      expect(new Set(statuses)).toEqual(new Set([200, 429]));
      const other = { dispatcher: proxied.agent("127.0.0.5") };
      expect((await proxied.fetch(`${proxied.url}/v1/responses`, other)).status).toBe(200);
    } finally {
      await proxied.stop();
      await server.stop();
    }
  },
);

test("nginx gives up an idle connection before the broker does", () => {
  const [, seconds = "0"] =
    /upstream brokers \{[^}]*keepalive_timeout (\d+)s;/.exec(recipe("compose/nginx.conf")) ?? [];
  expect(Number(seconds)).toBeGreaterThan(0);
  // Node's, which the broker does not change.
  expect(Number(seconds) * 1000).toBeLessThan(createServer().keepAliveTimeout);
  // While a replica drains, no idle connection is left that it would close at the end.
  const { CONSENTRY_DRAIN_MS = "0" } =
    readCompose(parseEnv(recipe("compose/.env.example"))).services["broker-1"]?.environment ?? {};
  expect(Number(seconds) * 1000).toBeLessThan(Number(CONSENTRY_DRAIN_MS));
});
