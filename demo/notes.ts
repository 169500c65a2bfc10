import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { z } from "zod";

export type NotesServer = {
  url: string;
  /** The header and value that it asks for. */
  key: { header: string; value: string };
  notes: Map<string, string>;
  stop: () => Promise<void>;
};

/** A remote MCP server (SDK v2, revision 2026-07-28) that keeps notes and asks for an API key. */
export async function startNotes(): Promise<NotesServer> {
  const key = { header: "x-notes-key", value: `notes-${crypto.randomUUID()}` };
  const notes = new Map([
    ["1", "buy milk"],
    ["2", "call the dentist"],
  ]);
  const handler = createMcpHandler(() => serverOf(notes), { legacy: "reject" });
  const server = createAdaptorServer({
    fetch: (request: Request) =>
      request.headers.get(key.header) === key.value
        ? handler.fetch(request)
        : new Response("no key", { status: 401 }),
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/mcp`,
    key,
    notes,
    stop: async () => {
      await handler.close();
      const closed = once(server, "close");
      server.close();
      if ("closeAllConnections" in server) server.closeAllConnections();
      await closed;
    },
  };
}

function serverOf(notes: Map<string, string>): McpServer {
  const server = new McpServer({ name: "notes", version: "1.0.0" });
  const text = (value: string) => ({ content: [{ type: "text" as const, text: value }] });
  server.registerTool(
    "list_notes",
    { description: "Lists all notes.", inputSchema: z.object({}), annotations: { readOnlyHint: true } },
    () => text([...notes].map(([id, note]) => `${id}: ${note}`).join("\n")),
  );
  server.registerTool(
    "delete_note",
    {
      description: "Deletes a note for good.",
      inputSchema: z.object({ id: z.string() }),
      annotations: { readOnlyHint: false, destructiveHint: true },
    },
    ({ id }) => text(notes.delete(id) ? `Note ${id} is deleted.` : `There is no note ${id}.`),
  );
  return server;
}
