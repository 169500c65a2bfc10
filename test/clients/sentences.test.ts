import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";

// What is shown of every client, in these words. What one cannot do has a test, too: of what it does instead.
const sentences = [
  "approval never: the tool runs, and the model answers with its result",
  "approval always: the client asks, the person approves, and the call runs once as it was stored",
  "a denial runs nothing, and the model is told",
  "two questions at once, one approved and one denied: one call runs",
  "allowed_tools hides the other tools, and a call of one of them does not run",
  "a tool that fails is shown as failed, and the model goes on",
  "a server that is down is shown as failed, and the model works with the others",
  "a model that fails when a tool has run: the client says why, in one body and streamed",
  "a tool of the client's own beside the server's: the model reads both results",
  "consent as item and message: the person finds the link, and the next request runs",
  "consent as an item alone",
  "consent as a message alone: the person finds the link, and the next request runs",
  "consent with the status incomplete",
  "a stream arrives in the client's own events, in order",
  "the progress of a call is no trouble in a stream",
  "a stream that ends with a question, and one that begins with its answer",
  "a stream that asks for consent",
  "the history that the client sends back is read, and nothing in it runs again",
  "in a conversation each turn reads what was said before, and what was approved there runs once",
];

test.each(["ai-sdk", "langchain", "openai", "openai-agents"])(
  "every sentence has its test with %s",
  async (client) => {
    const text = await readFile(join(import.meta.dirname, `${client}.test.ts`), "utf8");
    const titles = [...text.matchAll(/^test\("(.+)"/gm)].map(([, title]) => title);
    expect(titles).toEqual(expect.arrayContaining(sentences));
  },
);
