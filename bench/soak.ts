import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Agent, request } from "undici";
import { startAuthServer } from "../demo/auth-server.ts";
import { ACCOUNT, ADMIN_KEY, consent, restOf, startBroker } from "./broker.ts";
import { inspectedAt } from "./inspector.ts";
import { freePort } from "../test/helpers/ports.ts";
import { type Ask, type Callers, KINDS } from "./soak-kinds.ts";
import { read, type Reading } from "./soak-readings.ts";
import { startStage } from "./soak-stage.ts";

/** Calls under way at once. */
const WORKERS = 16;
/** For connections that are kept alive to be given up, and rows to be swept or written. */
const SETTLE_MS = 4_500;

/**
 * Makes calls of two dozen kinds in turn, and reads now and then what the broker holds when nobody asks it anything. `folder`: for its
 * database. `readAt`: after which shares of the calls.
 */
export async function soak(
  entry: string,
  {
    folder,
    calls,
    readAt = READ_AT,
    tell = () => {},
  }: { folder: string; calls: number; readAt?: number[]; tell?: (reading: Reading) => void },
): Promise<Reading[]> {
  const closing: (() => Promise<unknown>)[] = [];
  try {
    const authServer = await startAuthServer([ACCOUNT]);
    closing.push(authServer.stop);
    const stage = await startStage(authServer.issuer);
    closing.push(stage.stop);
    const inspectorPort = await freePort();
    const broker = await startBroker(entry, {
      folder,
      flags: inspectedAt(inspectorPort),
      env: { CONSENTRY_MODEL_BASE_URL: stage.chat },
    });
    closing.push(broker.stop);
    const key = await prepare(broker.url, stage);
    const target = { pid: broker.pid, inspectorPort, database: join(folder, "consentry.db") };
    const readings: Reading[] = [];
    let made = 0;
    for (const share of readAt) {
      made = await work({ url: broker.url, key, stage }, { from: made, to: Math.round(calls * share) });
      await delay(SETTLE_MS);
      const reading = await read(target, made);
      readings.push(reading);
      tell(reading);
    }
    return readings;
  } finally {
    for (const close of closing.toReversed()) await close();
  }
}

/** Shares of all calls after which is read: caches and code are warm at the first. */
const READ_AT = [0.25, 0.5, 1];

async function prepare(url: string, stage: { mcp: string; responses: string }): Promise<string> {
  const admin = restOf(url);
  const remote = (target: string, rest: object) => ({
    properties: { category: "RemoteTool", target, ...rest },
  });
  const byKey = { authType: "CustomKeys", credentials: { keys: { "x-soak-key": "secret" } } };
  await admin("PUT", "connections/by-key", remote(`${stage.mcp}/mcp`, byKey));
  await admin("PUT", "connections/open", remote(`${stage.mcp}/open/mcp`, { authType: "None" }));
  await admin("PUT", "connections/by-oauth", remote(`${stage.mcp}/oauth/mcp`, { authType: "OAuth2" }));
  const deep = { name: "deep", baseUrl: stage.responses, api: "responses", apiKey: null };
  await admin("PATCH", "settings", { models: [deep] });
  const { key } = await admin("POST", "keys", {
    name: "soak",
    roles: ["runtime", "approver"],
    rights: ["act_for_users"],
  });
  const agent = new Agent();
  const { as } = callersOf({ url, key: String(key) }, agent);
  let answer = "";
  const asking: Ask = async (...given) => (answer = await as("ann")(...given));
  await KINDS["with a user's account"]?.({ as: () => asking, admin: asking }, 0).catch(() => {});
  await agent.close();
  await consent(answer);
  return String(key);
}

type Target = { url: string; key: string };

/** Makes calls until there were `to` of them. Gives how many there were: each request to the broker is one. */
async function work(
  target: Target & { stage: { forget: () => void } },
  { from, to }: { from: number; to: number },
): Promise<number> {
  const agent = new Agent();
  const kinds = Object.entries(KINDS);
  let made = from;
  const { as, admin } = callersOf(target, agent);
  const counting =
    (ask: Ask): Ask =>
    (...given) => {
      made++;
      return ask(...given);
    };
  const callers: Callers = { as: (user) => counting(as(user)), admin: counting(admin) };
  let at = from;
  const worker = async () => {
    while (made < to) {
      const round = at++;
      const [name, kind] = kinds[round % kinds.length] ?? [];
      if (round % 1_000 === 0) target.stage.forget();
      await kind?.(callers, round).catch((error: unknown) => {
        throw new Error(`${name}, round ${round}`, { cause: error });
      });
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));
  await agent.destroy();
  return made;
}

function callersOf({ url, key }: Target, agent: Agent): Callers {
  const asking =
    (own: Record<string, string>): Ask =>
    async (method, path, { body, header, status = 200, signal } = {}) => {
      const answer = await request(`${url}${path}`, {
        method,
        dispatcher: agent,
        headers: { ...own, ...(body && { "content-type": "application/json" }), ...header },
        body: body ? JSON.stringify(body) : null,
        ...(signal && { signal }),
      });
      const text = await answer.body.text();
      if (answer.statusCode !== status) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`);
      return text;
    };
  const admin = asking({ authorization: `Bearer ${ADMIN_KEY}` });
  return { admin, as: (user) => asking({ authorization: `Bearer ${key}`, "x-ms-user-identity": user }) };
}
