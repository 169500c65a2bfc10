import { join } from "node:path";
import { createBrowser } from "../demo/browser.ts";
import { type Call, once } from "./load.ts";
import { type Server, startNode } from "./processes.ts";

export const ADMIN_KEY = `csk_${crypto.randomUUID()}${crypto.randomUUID()}`.replaceAll("-", "");
const ACCOUNT = "ann@example.com";
export { ACCOUNT };

/** What runs: the bundle, which people run, or the sources as they stand. */
export const SOURCES = join(import.meta.dirname, "../bin/consentry.mjs");

/** The broker of this entry, on a new SQLite file unless there is one in the folder. `flags` are Node's own. */
export function startBroker(
  entry: string,
  { folder, flags = [], env = {} }: { folder: string; flags?: string[]; env?: Record<string, string> },
): Promise<Server> {
  return startNode([...flags, entry], {
    ready: /"event":"started","url":"([^"]+)"/,
    env: {
      CONSENTRY_PORT: "0",
      CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
      CONSENTRY_ADMIN_KEY: ADMIN_KEY,
      ...env,
    },
  });
}

/** Makes a connection by a key and one of a user's own account to each server, and gives the calls to measure, by name. */
export async function prepare(
  broker: string,
  upstreams: Record<string, string>,
): Promise<Record<string, Call>> {
  const admin = restOf(broker);
  const { key } = await admin("POST", "keys", {
    name: "bench",
    roles: ["runtime"],
    rights: ["act_for_users"],
  });
  const calls: Record<string, Call> = {};
  for (const [name, origin] of Object.entries(upstreams)) {
    const credentials = { keys: { "x-bench-key": "secret" } };
    await admin("PUT", `connections/${name}-key`, {
      properties: { category: "RemoteTool", authType: "CustomKeys", target: `${origin}/mcp`, credentials },
    });
    calls[`${name}-key`] = callOf(broker, String(key), { label: `${name}-key`, user: null });
    await admin("PUT", `connections/${name}-oauth`, {
      properties: { category: "RemoteTool", authType: "OAuth2", target: `${origin}/oauth/mcp` },
    });
    const asOwn = callOf(broker, String(key), { label: `${name}-oauth`, user: "ann" });
    await consent(await once(asOwn));
    calls[`${name}-oauth`] = asOwn;
  }
  for (const call of Object.values(calls)) {
    const answer = await once(call);
    if (!answer.includes("a short answer")) throw new Error(`the call came to nothing: ${answer}`);
  }
  return calls;
}

/** An explicit call: the plainest way there is. */
function callOf(broker: string, key: string, { label, user }: { label: string; user: string | null }): Call {
  const body = {
    store: false,
    tools: [{ type: "mcp", server_label: label, require_approval: "never" }],
    input: [
      {
        type: "mcp_call",
        status: "calling",
        id: "mcp_1",
        server_label: label,
        name: "echo",
        arguments: JSON.stringify({ text: "hello" }),
      },
    ],
  };
  return {
    url: `${broker}/api/projects/default/openai/v1/responses`,
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      ...(user !== null && { "x-ms-user-identity": user }),
    },
    body: JSON.stringify(body),
  };
}

/** Presses what a person would press, until the answer's link has led to a grant. */
export async function consent(answer: string): Promise<void> {
  const link = /"consent_link":"([^"]+)"/.exec(answer)?.[1];
  if (link === undefined) throw new Error(`nobody is asked for consent: ${answer}`);
  const browser = createBrowser();
  const signIn = await browser.press(await browser.open(link), "allow");
  await browser.press(signIn, ACCOUNT);
}

/** The broker's administration, of one project. */
export function restOf(url: string) {
  return async (method: string, path: string, body: unknown): Promise<Record<string, unknown>> => {
    const answer = await fetch(`${url}/api/projects/default/${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text) as Record<string, unknown>;
  };
}
