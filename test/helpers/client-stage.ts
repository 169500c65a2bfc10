import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "./auth-server.ts";
import {
  type ModernServer,
  say,
  schemaOf,
  standardTools,
  startModernServer,
  type TestTool,
} from "./mcp-servers.ts";
import { type ChatMessage, type ScriptedModel, type ScriptedTurn, startModel } from "./model.ts";
import { allow, person } from "./people.ts";
import { type ProtectedServer, startProtectedServer } from "./protected-server.ts";
import { createWorld, type TestWorld } from "./world.ts";

/** A broker and what is around it, for a client that knows no more than a base URL and a key. */
export type ClientStage = {
  /** The connection `notes` asks nobody, `down` is a server that is not there, `team` wants each person's own account. */
  world: () => TestWorld;
  baseURL: () => string;
  apiKey: () => string;
  /** Whom its requests are for: Ann. */
  headers: Record<string, string>;
  /** What the model does with the next requests; the ones after them fail. */
  script: (...turns: ScriptedTurn[]) => void;
  /** What the model was told last. */
  told: () => ChatMessage[];
  /** The results of tools that the model was told last. */
  results: () => unknown[];
  /** The tools that the model was offered last. */
  offered: () => string[];
  /** The tools of `notes` that have run, in order. */
  ran: () => string[];
  /** Whose account the calls at `team` were made with. */
  ranAs: () => string[];
  settings: (patch: Record<string, unknown>) => Promise<void>;
  /** What the client has complained of so far; it counts no more. */
  complaints: () => string[];
  /** Ann opens the link that is somewhere in this text, and allows. */
  consentBy: (text: string) => Promise<void>;
};

/** Tells how far it is, twice. */
const counting: TestTool = {
  name: "count",
  inputSchema: schemaOf({}, []),
  run: async (_args, { mcpReq }) => {
    for (let progress = 1; progress <= 2; progress++) {
      const progressToken = mcpReq._meta?.progressToken;
      if (progressToken === undefined) return say("nobody wants to know");
      const params = { progressToken, progress, total: 2, message: `counted to ${progress}` };
      await mcpReq.notify({ method: "notifications/progress", params });
      await wait(260);
    }
    return say("counted");
  },
};

/**
 * Sets the stage for the tests of a file, and anew for each of them. After each, what the client complained of must have
 * been nothing, and the hosts that it talked to must be this machine.
 */
export function setClientStage(): ClientStage {
  let notes: ModernServer;
  let authServer: TestAuthServer;
  let team: ProtectedServer;
  let model: ScriptedModel;
  let world: TestWorld;
  let client: { baseURL: string; apiKey: string };
  let turns: ScriptedTurn[] = [];
  const heard = listen();

  beforeAll(() => heard.start());
  afterAll(() => heard.stop());
  beforeEach(async () => {
    turns = [];
    [notes, authServer, model] = await Promise.all([
      startModernServer({ tools: [...standardTools(), counting] }),
      startAuthServer(),
      startModel(() => turns.shift() ?? { status: 400, body: { error: { message: "no more turns" } } }),
    ]);
    team = await startProtectedServer({ authServer });
    world = await createWorld({ model });
    await world.connect("notes", { target: notes.url });
    await world.connect("down", { target: "http://127.0.0.1:1/mcp" });
    await world.connect("team", { authType: "OAuth2", target: team.url, credentials: {} });
    const { baseURL, apiKey } = await world.runtime({ rights: ["act_for_users"] });
    client = { baseURL, apiKey: apiKey ?? "" };
    heard.complaints.length = 0;
    heard.hosts.clear();
  });
  afterEach(async () => {
    const complaints = heard.complaints.splice(0);
    const elsewhere = [...heard.hosts].filter((host) => host !== "127.0.0.1");
    await world.stop();
    await Promise.all([notes.stop(), team.stop(), model.close()]);
    await authServer.stop();
    if (complaints.length > 0) throw new Error(`the client complains: ${complaints.join("; ")}`);
    if (elsewhere.length > 0) throw new Error(`the client talks to ${elsewhere.join(", ")}`);
    if (turns.length > 0) throw new Error(`the model was not asked ${turns.length} of its turns`);
  });

  const last = () => model.requests.at(-1)?.body;
  return {
    world: () => world,
    baseURL: () => client.baseURL,
    apiKey: () => client.apiKey,
    headers: { "x-ms-user-identity": "ann" },
    script: (...next) => {
      turns = next;
    },
    told: () => last()?.messages ?? [],
    results: () => (last()?.messages ?? []).flatMap((m) => (m.role === "tool" ? [m.content] : [])),
    offered: () => (last()?.tools ?? []).map((tool) => tool.function.name),
    ran: () => notes.seen("tools/call").map(({ body }) => String(body?.params?.["name"])),
    ranAs: () => team.calls.map(({ sub }) => sub),
    settings: async (patch) => {
      const { status } = await world.rest("PATCH", "/api/projects/default/settings", patch);
      if (status !== 200) throw new Error(`the settings: ${status}`);
    },
    complaints: () => heard.complaints.splice(0),
    consentBy: async (text) => {
      const link = /http:\/\/127\.0\.0\.1:\d+\/consent\/[\w.-]+/.exec(text)?.[0];
      if (link === undefined) throw new Error(`no link is in: ${text}`);
      const heading = headingOf(await allow(person(authServer, "ann@provider"), link));
      if (!heading.includes("Connected")) throw new Error(`after Allow: ${heading}`);
    },
  };
}

type Heard = {
  complaints: string[];
  hosts: Set<string>;
  start: () => void;
  stop: () => void;
};

/** Warnings and errors, of the console and of the process, and whom this process sends requests to by `fetch`. */
function listen(): Heard {
  const complaints: string[] = [];
  const hosts = new Set<string>();
  const { warn, error } = console;
  const complain = (...said: unknown[]) => complaints.push(said.map(String).join(" "));
  const onWarning = ({ message }: Error) => complaints.push(message);
  const onRequest = (message: unknown) => {
    // Seam: what undici says on its channel.
    const { request } = message as { request: { origin: string } };
    hosts.add(new URL(request.origin).hostname);
  };
  return {
    complaints,
    hosts,
    start: () => {
      Object.assign(console, { warn: complain, error: complain });
      process.on("warning", onWarning);
      subscribe("undici:request:create", onRequest);
    },
    stop: () => {
      Object.assign(console, { warn, error });
      process.off("warning", onWarning);
      unsubscribe("undici:request:create", onRequest);
    },
  };
}

/** A turn in which the model calls a tool. */
export const calls = (name: string, args: unknown = {}): ScriptedTurn => ({
  calls: [{ name, arguments: args }],
});

/** It deletes both notes in one turn. */
export const DELETES_TWO: ScriptedTurn = {
  calls: ["1", "2"].map((id) => ({ name: "notes__delete_note", arguments: { id } })),
};

/** It reads a note, and asks the client's own tool for the weather. */
export const READS_AND_ASKS: ScriptedTurn = {
  calls: [
    { name: "notes__read_note", arguments: { id: "7" } },
    { name: "weather", arguments: { city: "Rome" } },
  ],
};

/** A model that takes no more of this. */
export const FAILS: ScriptedTurn = { status: 400, body: { error: { message: "too warm today" } } };
