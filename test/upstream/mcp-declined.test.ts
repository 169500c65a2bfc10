import { inputRequired } from "@modelcontextprotocol/server";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, type TestUpstream, within } from "../helpers/mcp-upstream.ts";
import { asking, startSessionfulServer } from "../helpers/sessionful-server.ts";

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

const call = (url: string, name: string, timeoutMs = 10_000) =>
  upstream.callTool(accessTo(url), callOf(name), within(timeoutMs));

describe("a server on the SDK of the older revisions", () => {
  test.each([
    ["elicitation/create", "the user's input"],
    ["sampling/createMessage", "a model"],
    ["roots/list", "the client's folders"],
  ] as const)(
    "that asks for %s is declined at once, and the call's reader is told why it failed",
    async (method, what) => {
      const server = await startSessionfulServer({ ask: asking(method) });
      stops.push(server.stop);
      const outcome = await call(server.url, "ask");
      expect(outcome).toMatchObject({
        ok: true,
        result: {
          isError: true,
          content: [
            { type: "text", text: expect.stringMatching(/^could not go on: .*-32601/) },
            {
              type: "text",
              text: `The server asked for ${what} (${method}) in the middle of the call, which this broker does not pass on.`,
            },
          ],
        },
      });
      expect(server.seen("initialize")[0]?.body?.params?.["capabilities"]).toEqual({});
    },
  );

  test("that goes on without what it asked for is not talked about", async () => {
    const server = await startSessionfulServer({
      ask: async (extra, of) => {
        await asking("sampling/createMessage")(extra, of);
        return { content: [{ type: "text", text: "I did it myself" }] };
      },
    });
    stops.push(server.stop);
    expect(await call(server.url, "ask")).toMatchObject({ ok: true, result: say("I did it myself") });
  });

  test("that waits for ever after it was declined is late, and that is said, too", async () => {
    const server = await startSessionfulServer({
      ask: async (extra, of) => {
        await asking("elicitation/create")(extra, of);
        return new Promise(() => {});
      },
    });
    stops.push(server.stop);
    // The session begins before it is timed.
    await call(server.url, "no-such");
    expect(await call(server.url, "ask", 1_000)).toMatchObject({
      ok: false,
      failure: {
        kind: "timeout",
        message: expect.stringMatching(/^The server did not finish .* asked for the user's input/),
      },
    });
  });
});

describe("a stateless server of 2026-07-28", () => {
  test("that wants input of a client that declares none fails with what it wants", async () => {
    const server = await startModernServer({
      tools: [
        {
          name: "ask",
          inputSchema: schemaOf({}, []),
          run: () => {
            const requestedSchema = { type: "object" as const, properties: {} };
            const who = inputRequired.elicit({ message: "Who?", requestedSchema });
            // What a tool may return besides a result; the helper's type knows results only.
            return inputRequired({ inputRequests: { who } }) as never;
          },
        },
      ],
    });
    stops.push(server.stop);
    const outcome = await call(server.url, "ask");
    expect(outcome).toMatchObject({
      ok: false,
      failure: {
        kind: "protocol",
        code: -32021,
        message: expect.stringContaining("what this broker does not pass on: the user's input"),
      },
    });
    expect(server.seen("tools/call")).toHaveLength(1);
  });
});
