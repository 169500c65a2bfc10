// `npm run bench`: what a call through the broker costs beside a direct one, one of a bare forward and one of nginx. Rounds are
// interleaved, so that what the machine does meanwhile happens to all of them; figures are medians, and only ratios mean
// something on another machine. `-- --start` measures starts and rest, `-- --soak` calls of two dozen kinds, and what they leave behind;
// `-- --replicas 1,2 --engines all` makes the same calls on each engine, `-- --grants 1000,1000000` out of tables of these sizes.
// See docs/performance.md.
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startAuthServer } from "../demo/auth-server.ts";
import { ACCOUNT, prepare, startBroker } from "./broker.ts";
import { openDatabases } from "./databases.ts";
import { countsOf, enginesOf, setupsOf } from "./engines.ts";
import { bundled, type Entry, sources } from "./entry.ts";
import { compareSizes } from "./grown.ts";
import { sizesOf } from "./grown-sizes.ts";
import { inspectedAt } from "./inspector.ts";
import { type Call, load } from "./load.ts";
import { hasNginx, startNginx } from "./nginx.ts";
import { topOf } from "./profile.ts";
import { type Server, startNode, usageOf } from "./processes.ts";
import { compareSetups } from "./replicas.ts";
import { rowsOf, type Way } from "./rounds.ts";
import { soak } from "./soak.ts";
import { leaksOf, soakTable } from "./soak-verdict.ts";
import type { Stage } from "./stands.ts";
import { measureStarts } from "./start.ts";
import { table } from "./table.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    calls: { type: "string", default: "100000" },
    rest: { type: "string", default: "60" },
    profile: { type: "boolean", default: false },
    soak: { type: "boolean", default: false },
    start: { type: "boolean", default: false },
    sources: { type: "boolean", default: false },
    replicas: { type: "string" },
    engines: { type: "string" },
    grants: { type: "string" },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const calls = Number(values.calls);
const CONNECTIONS = [1, 32];
const INSPECTOR_PORT = 9231;
const KINDS = ["sdk", "canned"] as const;
/** What is between two hosts, and not of the request (RFC 9110, 7.6.1). */
const HOP = new Set(["host", "connection", "content-length", "transfer-encoding"]);

/** A way to an MCP server, and the process in between, to be ended after it. */
type Started = Way & { server: Server | null };

const folder = await mkdtemp(join(tmpdir(), "consentry-bench-"));
const closing: (() => Promise<unknown>)[] = [() => rm(folder, { recursive: true, force: true })];
try {
  const entry = values.sources ? sources : await bundled(folder);
  console.log(`the broker: ${entry.name}`);
  if (values.start) await tellStarts(entry);
  else if (values.soak) await tellSoak(entry);
  else if (values.grants !== undefined) await tellSizes(entry, values.grants);
  else if (values.replicas !== undefined || values.engines !== undefined) await tellSetups(entry);
  else await measure(entry);
} finally {
  // Whatever one of them meets, the others end, too.
  for (const close of closing.toReversed()) await close().catch((error: unknown) => console.error(error));
}

async function measure(entry: Entry): Promise<void> {
  const authServer = await startAuthServer([ACCOUNT]);
  closing.push(authServer.stop);
  const upstreams: Record<string, Server> = {};
  for (const kind of KINDS) {
    const upstream = await startNode([join(import.meta.dirname, "upstream.ts"), kind, authServer.issuer]);
    closing.push(upstream.stop);
    upstreams[kind] = upstream;
  }
  const broker = await startBroker(entry.path, {
    folder,
    flags: values.profile ? inspectedAt(INSPECTOR_PORT) : [],
    env: entry.env,
  });
  closing.push(broker.stop);
  const atStart = await usageOf(broker.pid);
  const origins = Object.fromEntries(Object.entries(upstreams).map(([kind, { url }]) => [kind, url]));
  const made = await prepare(broker.url, origins);
  if (values.profile) return tellProfile(made["canned-key"]);
  const plain = await plainCall(origins["canned"] ?? "");

  console.log(
    `${cpus().length} cores, Node ${process.versions.node}; ${rounds} rounds of ${seconds} s each\n`,
  );
  for (const kind of KINDS) {
    const ways = await waysTo(kind, `${origins[kind] ?? ""}/mcp`, { calls: made, plain, broker });
    for (const connections of CONNECTIONS)
      console.log(
        `${table(kind, connections, await rowsOf(ways, { connections, rounds, seconds, folder }))}\n`,
      );
    for (const { server } of ways) if (server && server !== broker) await server.stop();
  }
  await tellMemory(broker, atStart.rssMiB, made);
}

async function waysTo(
  kind: (typeof KINDS)[number],
  target: string,
  { calls, plain, broker }: { calls: Record<string, Call>; plain: Omit<Call, "url">; broker: Server },
): Promise<Started[]> {
  const forward = await startNode([join(import.meta.dirname, "forward.ts"), target]);
  const nginx = await startNginx(folder, target);
  if (!nginx) console.log("nginx is not installed, and left out (Debian: apt-get install nginx-light)\n");
  const through = (name: string) => {
    const call = calls[`${kind}-${name}`];
    if (!call) throw new Error(`there is no call ${kind}-${name}`);
    return { name: `Consentry, ${name} connection`, call, server: broker };
  };
  return [
    { name: "direct", call: { ...plain, url: target }, server: null },
    ...(nginx ? [{ name: "nginx", call: { ...plain, url: nginx.url }, server: nginx }] : []),
    { name: "Hono + fetch", call: { ...plain, url: forward.url }, server: forward },
    through("key"),
    through("oauth"),
  ];
}

/** The call that the broker made, to be made without it. */
async function plainCall(canned: string): Promise<Omit<Call, "url">> {
  const answer = await fetch(`${canned}/last`);
  const { headers, body } = (await answer.json()) as Omit<Call, "url">;
  const kept = Object.entries(headers).filter(([name]) => !HOP.has(name));
  return { headers: Object.fromEntries(kept), body };
}

/** Where the time of a plain call goes, by a run of its own: a profiler costs something itself. */
async function tellProfile(call: Call | undefined): Promise<void> {
  if (!call) throw new Error("there is no call to profile");
  const work = async (s: number) => (await load(call, { connections: 8, seconds: s, folder })).requests;
  await work(seconds);
  console.log(await topOf(INSPECTOR_PORT, () => work(3 * seconds)));
}

/** After as many calls as `calls`, of both kinds in turn. */
async function tellMemory(broker: Server, atStart: number, ways: Record<string, Call>): Promise<void> {
  const before = await usageOf(broker.pid);
  let made = 0;
  while (made < calls) {
    for (const name of ["canned-key", "canned-oauth", "sdk-key", "sdk-oauth"]) {
      const call = ways[name];
      if (call) made += (await load(call, { connections: 32, seconds: 2, folder })).requests;
    }
  }
  const after = await usageOf(broker.pid);
  const mib = (value: number) => `${Math.round(value)} MiB`;
  console.log(
    `resident memory of the broker: ${mib(atStart)} when started, ${mib(before.rssMiB)} after the rounds, ` +
      `${mib(after.rssMiB)} after ${made} calls more`,
  );
}

async function tellSetups(entry: Entry): Promise<void> {
  const setups = setupsOf(enginesOf(values.engines ?? "all"), countsOf("replicas", values.replicas ?? "1"));
  await compareSetups(setups, stageOf(entry), { rounds, seconds, tell: (text) => console.log(`${text}\n`) });
}

/** Fails when a database would scan for a grant. */
async function tellSizes(entry: Entry, grants: string): Promise<void> {
  const sizes = sizesOf(grants);
  const asked = enginesOf(values.engines ?? "sqlite,postgres");
  const engines = asked.filter((engine) => engine !== "d1");
  if (engines.length === 0) throw new Error("--grants knows --engines sqlite and postgres");
  if (engines.length < asked.length) console.log("D1 is left out: it is not filled from outside\n");
  const tell = (text: string) => console.log(text);
  const scanning = await compareSizes({ engines, sizes, rounds, seconds, tell }, stageOf(entry));
  for (const name of scanning) console.log(`scans for a grant: ${name}`);
  if (scanning.length > 0) process.exitCode = 1;
}

function stageOf(entry: Entry): Stage {
  const databases = openDatabases(folder);
  closing.push(databases.stop);
  console.log(
    `${cpus().length} cores, Node ${process.versions.node}; ${rounds} rounds of ${seconds} s each\n`,
  );
  if (!hasNginx) console.log("nginx is not installed: a balancer in Node stands before the brokers\n");
  return { entry, folder, databases, closing };
}

async function tellStarts({ path, env }: Entry): Promise<void> {
  console.log(await measureStarts(path, { env, restMs: Number(values.rest) * 1000 }));
}

/** Fails when the second half left something behind that it should not have. */
async function tellSoak({ path }: Entry): Promise<void> {
  const readings = await soak(path, {
    folder,
    calls,
    tell: (reading) => process.stderr.write(`${JSON.stringify(reading)}\n`),
  });
  console.log(soakTable(readings));
  const [middle, end] = readings.slice(-2);
  const leaks = middle && end ? leaksOf(middle, end) : ["nothing was read"];
  for (const leak of leaks) console.log(`grew: ${leak}`);
  if (leaks.length > 0) process.exitCode = 1;
}
