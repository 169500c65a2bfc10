// The AI SDK's messages as useChat keeps them: streamed into parts, answered in a part, and turned into a prompt again.
import { createOpenAI } from "@ai-sdk/openai";
import { convertToModelMessages, readUIMessageStream, streamText, type UIMessage } from "ai";
import { expect, test } from "vitest";
import { calls, setClientStage } from "../helpers/client-stage.ts";

const stage = setClientStage();

/** One turn of a chat: the last message is gone on with if it is the assistant's, as useChat does after an answer. */
async function turn(chat: UIMessage[]): Promise<void> {
  const openai = createOpenAI({
    baseURL: stage.baseURL(),
    apiKey: stage.apiKey(),
    headers: stage.headers,
  });
  const tools = {
    notes: openai.tools.mcp({
      serverLabel: "notes",
      serverUrl: "https://connection.example",
      requireApproval: "always",
    }),
  };
  const said = streamText({
    model: openai.responses("m"),
    tools,
    messages: await convertToModelMessages(chat),
  });
  const last = chat.at(-1);
  const message = last?.role === "assistant" ? last : undefined;
  const stream = said.toUIMessageStream({ originalMessages: chat });
  let next: UIMessage | undefined;
  for await (const state of readUIMessageStream({ stream, ...(message && { message }) })) next = state;
  if (!next) throw new Error("nothing came");
  chat.splice(message ? -1 : chat.length, 1, next);
}

const says = (id: string, text: string): UIMessage => ({
  id,
  role: "user",
  parts: [{ type: "text", text }],
});

/** What addToolApprovalResponse does to the question. */
function answer(chat: UIMessage[], approved: boolean): void {
  const last = chat.at(-1);
  if (!last) throw new Error("nothing was said");
  last.parts = last.parts.map((part) =>
    part.type === "dynamic-tool" && part.state === "approval-requested"
      ? { ...part, state: "approval-responded", approval: { id: part.approval.id, approved } }
      : part,
  );
}

const shown = (chat: UIMessage[]) =>
  chat.at(-1)?.parts.flatMap((part) => {
    if (part.type === "text") return [part.text];
    return part.type === "dynamic-tool" ? [`${part.toolName} ${part.state}`] : [];
  });

test("a chat asks, goes on in the same message when the person has approved, and remembers", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  const chat = [says("1", "delete note 1")];
  await turn(chat);
  expect(shown(chat)).toEqual(["mcp.delete_note approval-requested"]);
  answer(chat, true);
  await turn(chat);
  // Two parts: the client gives the call that ran an id of its own.
  expect(shown(chat)).toEqual([
    "mcp.delete_note approval-responded",
    "mcp.delete_note output-available",
    "It is gone.",
  ]);
  chat.push(says("2", "thanks"));
  await turn(chat);
  expect(shown(chat)).toEqual(["Welcome."]);
  expect(stage.results()).toEqual(["deleted 1"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a denial in a chat runs nothing, and the model is told", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I leave it." }, { text: "Welcome." });
  const chat = [says("1", "delete note 1")];
  await turn(chat);
  answer(chat, false);
  await turn(chat);
  expect(shown(chat)?.at(-1)).toBe("I leave it.");
  chat.push(says("2", "thanks"));
  await turn(chat);
  expect(shown(chat)).toEqual(["Welcome."]);
  expect(stage.results()).toEqual(["Not run: the user denied this call."]);
  expect(stage.ran()).toEqual([]);
});
