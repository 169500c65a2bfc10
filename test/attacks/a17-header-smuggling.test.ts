import { createServer } from "node:net";
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { headerValue } from "../../src/upstream/mcp-headers.ts";
import {
  answerResult,
  DISCOVERED,
  INITIALIZED,
  say,
  schemaOf,
  startModernServer,
  startRawServer,
  type RawServer,
} from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, within, type TestUpstream } from "../helpers/mcp-upstream.ts";

// A17, towards MCP servers: what a caller or an admin writes cannot become a header that it is not, and a header never
// says anything else than the body.

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

async function recorder({ sessions }: { sessions: boolean }): Promise<RawServer> {
  const server = await startRawServer((request, response) => {
    const { method, id } = request.body ?? {};
    if (method === "server/discover") {
      if (sessions) return void response.writeHead(404).end();
      return answerResult(request, response, DISCOVERED);
    }
    if (id === undefined) return void response.writeHead(202).end();
    if (sessions) response.setHeader("mcp-session-id", "the-real-one");
    answerResult(
      request,
      response,
      method === "initialize" ? INITIALIZED : { resultType: "complete", ...say("ok") },
    );
  });
  stops.push(server.stop);
  return server;
}

const decoded = (value: string | null) => {
  const found = /^=\?base64\?(.*)\?=$/.exec(value ?? "");
  return found ? Buffer.from(found[1] ?? "", "base64").toString() : value;
};

const nasty = [
  "plain",
  "with space",
  " leading and trailing ",
  "",
  "\t",
  "a\r\nX-Evil: 1",
  "a\nX-Evil: 1\n\nGET /admin HTTP/1.1",
  "\u0000nul",
  "naïve 日本 🦊",
  "=?base64?cGxhaW4=?=",
  "\u202egpj.exe",
  'comma, semicolon; quote"',
  "x".repeat(6_000),
];

describe("the name of a tool", () => {
  test.each(nasty)("%j is the same in header and body, and nothing else", async (name) => {
    const server = await recorder({ sessions: false });
    await upstream.callTool(accessTo(server.url), callOf(name), within(5_000));
    const [seen] = server.seen("tools/call");
    expect(seen?.body?.params?.name).toBe(name);
    expect(decoded(seen?.headers.get("mcp-name") ?? null)).toBe(name);
    expect(seen?.headers.get("x-evil")).toBeNull();
    expect(seen?.headers.get("mcp-method")).toBe("tools/call");
    expect(server.requests).toHaveLength(2);
  });

  test("a server that compares header and body, as the SDK's does, agrees", async () => {
    // The SDK's server warns of every such name.
    const quiet = vi.spyOn(console, "warn").mockImplementation(() => {});
    stops.push(async () => quiet.mockRestore());
    const names = nasty.filter((name) => name.length > 0 && name.length <= 128);
    const tools = names.map((name) => ({
      name,
      inputSchema: schemaOf({}, []),
      run: () => say(`this is ${name}`),
    }));
    const server = await startModernServer({ tools });
    stops.push(server.stop);
    for (const name of names) {
      const outcome = await upstream.callTool(accessTo(server.url), callOf(name), within(5_000));
      expect(outcome).toMatchObject({ ok: true, result: say(`this is ${name}`) });
    }
  });
});

test("an argument that is mirrored cannot break out of its header", async () => {
  const server = await recorder({ sessions: false });
  for (const region of nasty) {
    const definition = {
      name: "go",
      title: null,
      description: null,
      inputSchema: { type: "object", properties: { region: { type: "string", "x-mcp-header": "Region" } } },
      outputSchema: null,
      annotations: {},
    };
    await upstream.callTool(
      accessTo(server.url),
      { name: "go", arguments: { region }, definition },
      within(5_000),
    );
    const seen = server.seen("tools/call").at(-1);
    expect(decoded(seen?.headers.get("mcp-param-region") ?? null)).toBe(region);
    expect(seen?.headers.get("x-evil")).toBeNull();
  }
});

test.each(["Authorization\r\nX-Evil", "Transfer Encoding", "", "Nämе", "Mcp-Method", "Host:"])(
  "a server's definition cannot name a header %j that is not its to set",
  async (name) => {
    const server = await recorder({ sessions: false });
    const schema = { type: "object", properties: { region: { type: "string", "x-mcp-header": name } } };
    const definition = {
      name: "go",
      title: null,
      description: null,
      inputSchema: schema,
      outputSchema: null,
      annotations: {},
    };
    const access = accessTo(server.url, { headers: { authorization: "Bearer own" } });
    await upstream.callTool(access, { name: "go", arguments: { region: "evil" }, definition }, within(5_000));
    const headers = [...(server.seen("tools/call")[0]?.headers ?? [])].filter(([, value]) =>
      value.includes("evil"),
    );
    expect(headers.every(([header]) => header.startsWith("mcp-param-"))).toBe(true);
    expect(server.seen("tools/call")[0]?.headers.get("authorization")).toBe("Bearer own");
  },
);

test("a header value is plain or a Base64 sentinel, whatever the text", () => {
  for (const text of nasty) {
    expect(headerValue(text)).toMatch(/^[\t\x20-\x7e]+$/);
    expect(decoded(headerValue(text))).toBe(text);
  }
  expect(headerValue("plain words")).toBe("plain words");
});

describe("a credential", () => {
  test.each(["a\r\nX-Evil: 1", "a\nb", "\u0000", "日本"])(
    "with the value %j is refused, and not told",
    async (value) => {
      const server = await recorder({ sessions: false });
      const access = accessTo(server.url, { headers: { authorization: `Bearer s3cret ${value}` } });
      const outcome = await upstream.callTool(access, callOf("any"), within(5_000));
      expect(outcome).toMatchObject({ ok: false, failure: { kind: "refused" }, sent: false });
      expect(JSON.stringify([outcome, upstream.logged])).not.toContain("s3cret");
      expect(server.requests).toEqual([]);
    },
  );

  test.each([false, true])("cannot forge what the protocol or HTTP says (sessions: %s)", async (sessions) => {
    const server = await recorder({ sessions });
    const forged = {
      "Mcp-Session-Id": "forged",
      "mcp-protocol-version": "forged",
      "MCP-METHOD": "forged",
      "Mcp-Name": "forged",
      "Mcp-Param-Region": "forged",
      "Last-Event-Id": "forged",
      "Content-Type": "forged",
      Accept: "forged",
      Host: "forged.example",
      "Content-Length": "5",
      "Transfer-Encoding": "chunked",
      Connection: "close, authorization",
      Upgrade: "forged",
      Expect: "100-continue",
      Trailer: "forged",
      TE: "forged",
    };
    const access = accessTo(server.url, { headers: { ...forged, "X-Api-Key": "own" } });
    expect(await upstream.callTool(access, callOf("any"), within(5_000))).toMatchObject({ ok: true });
    expect(server.requests.length).toBeGreaterThanOrEqual(2);
    for (const { headers } of server.requests) {
      expect(JSON.stringify([...headers])).not.toMatch(/forged|100-continue|chunked/);
      expect(headers.get("x-api-key")).toBe("own");
    }
  });

  test("is one header, however often it is spelled", async () => {
    const lines: string[] = [];
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", (chunk: Buffer) => {
        lines.push(...chunk.toString().split("\r\n"));
        socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    stops.push(async () => void server.close());
    const address = server.address();
    const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}/mcp`;
    const headers = {
      Authorization: "Bearer one",
      authorization: "Bearer two",
      AUTHORIZATION: "Bearer three",
    };
    await upstream.callTool(accessTo(url, { headers }), callOf("any"), within(2_000));
    expect(lines.filter((line) => /^authorization:/i.test(line))).toEqual(["authorization: Bearer three"]);
    expect(lines.filter((line) => /^host:/i.test(line))).toEqual([`host: ${new URL(url).host}`]);
  });
});

test("nothing of the caller goes along: only the connection's headers, HTTP's and the protocol's", async () => {
  const server = await recorder({ sessions: true });
  await upstream.callTool(accessTo(server.url, { headers: { "x-key": "k" } }), callOf("any"), within(5_000));
  await upstream.close();
  const names = new Set(server.requests.flatMap(({ headers }) => [...headers.keys()]));
  expect([...names].toSorted()).toEqual([
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "mcp-method",
    "mcp-protocol-version",
    "mcp-session-id",
    "user-agent",
    "x-key",
  ]);
});
