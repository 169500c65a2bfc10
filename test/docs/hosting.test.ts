// docs/hosting.md, as it stands: its server runs, what it says to send connects it, and its numbers are those of the code.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { MAX_TIMEOUT_MS, MIN_TIMEOUT_MS } from "../../src/core/connection.ts";
import * as limits from "../../src/upstream/mcp-limits.ts";
import { textOf } from "../helpers/documents.ts";
import { createHost, readHosting, targetOf } from "../helpers/hosting.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

const hosting = await readHosting();
const host = createHost();
let world: TestWorld;

beforeAll(async () => {
  world = await createWorld();
});
afterEach(host.stop);
afterAll(() => world.stop());

describe("the complete server", () => {
  test("is connected, validated and called by the three requests of the document", async () => {
    const server = await host.run(hosting.filesWith());
    const requests = curlsOf(hosting.block("curl -sX PUT $API/connections/orders -H"));
    expect(requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
      "PUT /connections/orders",
      "POST /connections/orders:validate",
      "POST /openai/v1/responses",
    ]);
    const answers = [];
    for (const { method, path, body } of requests) {
      const here = body?.replace("http://127.0.0.1:3000/mcp", targetOf(server));
      answers.push(await world.rest(method, `/api/projects/default${path}`, here && JSON.parse(here)));
    }
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(answers[1]?.body).toMatchObject({ ok: true, cause: "none", toolCount: 2 });
    expect(answers[2]?.body).toMatchObject({
      output: [{ type: "mcp_call", error: null, output: "Order 4711: 2 books, on its way." }],
    });
  });

  test("says at /health that it is there, serves no browser, and nothing elsewhere", async () => {
    const { origin } = new URL(targetOf(await host.run(hosting.filesWith())));
    const statusOf = async (path: string, init?: RequestInit) =>
      (await fetch(`${origin}${path}`, init)).status;
    expect(await statusOf("/health")).toBe(200);
    expect(await statusOf("/other")).toBe(404);
    expect(await statusOf("/__proto__")).toBe(404);
    const page = { method: "POST", headers: { origin: "https://evil.example" }, body: "{}" };
    expect(await statusOf("/mcp", page)).toBe(403);
  });

  test.each(["2025-03-26", "2025-06-18", "2025-11-25"])("serves clients of %s, too", async (revision) => {
    const target = targetOf(await host.run(hosting.filesWith()));
    const params = {
      protocolVersion: revision,
      capabilities: {},
      clientInfo: { name: "old", version: "1" },
    };
    const answer = await fetch(target, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params }),
    });
    expect(await answer.text()).toContain(`"protocolVersion":"${revision}"`);
  });

  test("ends by itself when it is told to stop", async () => {
    const server = await host.run(hosting.filesWith());
    expect(await server.stop()).toBe(0);
  });

  test("answers as a Lambda function behind its URL", async () => {
    const files = hosting.filesWith(hosting.block("// lambda: a function URL\n"));
    const asked = `const { body } = await handler(${JSON.stringify(lambdaEvent("/health"))});`;
    const code = `${files["server.mjs"]}${asked} console.log(\`listening on \${body}:1\`);`;
    const server = await host.run({ ...files, "server.mjs": code });
    expect(server.output()).toBe("listening on ok:1");
  });
});

test("every body that the document puts is a connection", async () => {
  const bodies = hosting.blocks
    .filter(({ code }) => code.startsWith('{ "properties"'))
    .map(({ code }) => JSON.parse(code) as { properties: { authType: string } }); // Seam: the filter above.
  expect(new Set(bodies.map(({ properties }) => properties.authType))).toEqual(new Set(KINDS));
  for (const body of bodies) {
    const put = await world.rest("PUT", "/api/projects/default/connections/of-the-document", body);
    expect(put.body).toMatchObject({ name: "of-the-document" });
  }
});

test("the limits are those of the code", async () => {
  const text = await textOf("hosting.md");
  const mebibytes = (bytes: number) => `${bytes / (1024 * 1024)} MiB`;
  const count = (amount: number) => amount.toLocaleString("en-US");
  const { MAX_ANSWER_BYTES, MAX_ANSWER_DEPTH, MAX_STREAM_MESSAGES, MAX_EVENT_LINES } = limits;
  const { MAX_LIST_BYTES, MAX_LIST_PAGES, MAX_LISTED_TOOLS, MAX_REDIRECTS, CONNECT_MS } = limits;
  for (const said of [
    `${mebibytes(MAX_ANSWER_BYTES)}, nesting of ${MAX_ANSWER_DEPTH}, ${count(MAX_STREAM_MESSAGES)} messages`,
    `${count(MAX_EVENT_LINES)} lines in an event`,
    `${mebibytes(MAX_LIST_BYTES)}, ${MAX_LIST_PAGES} pages, ${count(MAX_LISTED_TOOLS)} tools`,
    `${CONNECT_MS / 1000} seconds, and no longer than the call`,
    `${MIN_TIMEOUT_MS} to ${count(MAX_TIMEOUT_MS)}`,
    `within the origin, ${MAX_REDIRECTS} at most`,
    `for ${limits.LEGACY_ERA_MS / 3_600_000} hours`,
    `after ${limits.SESSION_IDLE_MS / 60_000} minutes without a call`,
    `one of ${count(limits.MAX_SESSIONS)} in a replica`,
    `one of ${limits.MAX_SESSIONS_OF_CONNECTION} of its connection`,
    `the first ${limits.MAX_SERVER_REQUESTS} times in a call`,
    `\`message\` as ${limits.MAX_PROGRESS_TEXT} characters`,
    `answers within ${limits.COURTESY_MS / 1000} seconds`,
    `${limits.MAX_RESUMES} times in a call, and ${limits.MAX_AWAY} times in a row`,
  ]) {
    expect(text).toContain(said);
  }
});

test("every cause that :validate may name has a line that says what to do", async () => {
  const source = await textOf("../src/core/diagnosis-failures.ts");
  const declared = /export type Cause =([^;]+);/.exec(source)?.[1] ?? "";
  const causes = [...declared.matchAll(/"(\w+)"/g)].map(([, cause]) => cause);
  const lines = [...(await textOf("hosting.md")).matchAll(/^\| `(\w+)` \|/gm)].map(([, cause]) => cause);
  expect(causes.length).toBeGreaterThan(10);
  expect(lines).toEqual(expect.arrayContaining(causes));
});

const KINDS = ["None", "CustomKeys", "OAuth2", "ProjectManagedIdentity"];

/** The requests of a block of `curl -sX METHOD $API/path … [-d 'JSON']`. */
function curlsOf(code: string): { method: string; path: string; body: string | undefined }[] {
  return code.split(/^(?=curl )/m).map((command) => ({
    method: /-sX (\w+)/.exec(command)?.[1] ?? "",
    path: /\$API(\S+)/.exec(command)?.[1] ?? "",
    body: /-d '([\s\S]*?)'\s*$/.exec(command)?.[1],
  }));
}

/** What Lambda hands to a function for a GET of its URL (payload format 2.0). */
function lambdaEvent(path: string) {
  const domainName = "abc.lambda-url.eu-central-1.on.aws";
  const http = { method: "GET", path, protocol: "HTTP/1.1", sourceIp: "192.0.2.1", userAgent: "" };
  return {
    version: "2.0",
    routeKey: "$default",
    rawPath: path,
    rawQueryString: "",
    headers: { host: domainName },
    requestContext: { domainName, http, stage: "$default", requestId: "1" },
    isBase64Encoded: false,
  };
}
