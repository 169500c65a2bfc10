import { openStore } from "../src/database.ts";
import { prepare } from "./broker.ts";
import { type Engine, ENGINE_NAMES } from "./engines.ts";
import { openFiller, type Place, placeOf } from "./grown-fill.ts";
import { openGiver, PROJECT } from "./grown-people.ts";
import { planOf, scans } from "./grown-plan.ts";
import { BOX_BYTES, boxBytesAt, slicesOf } from "./grown-sizes.ts";
import { type Call, once } from "./load.ts";
import { startCanned } from "./replicas.ts";
import { type Rounds, rowsOf, type Way } from "./rounds.ts";
import { KEYRING, type Stage, startStand } from "./stands.ts";
import { comparison } from "./table.ts";

const CONNECTIONS = [1, 32];
const ANN = "app:ann";
const WARM_S = 2;
/** Callers at once, while everybody is called for the first time. */
const GREETERS = 8;

export type Grown = Omit<Rounds, "connections" | "folder" | "warmS"> & {
  engines: readonly Exclude<Engine, "d1">[];
  sizes: readonly number[];
  /** Is given each table, and what was filled, when it is there. */
  tell: (text: string) => void;
};

/**
 * Calls through grants out of tables of these sizes, each call another person's. Gives the names of the databases that would scan for a
 * grant.
 */
export async function compareSizes(
  { engines, sizes, tell, ...rounds }: Grown,
  stage: Stage,
): Promise<string[]> {
  const upstream = await startCanned(stage);
  const scanning: string[] = [];
  const groups: Way[][] = [];
  for (const engine of engines) {
    const ways: Way[] = [];
    for (const size of sizes) {
      const name = `${ENGINE_NAMES[engine]}, ${size.toLocaleString("en")} grants`;
      const stand = await startStand({ engine, replicas: 1, database: `grown${size}` }, stage);
      const call = (await prepare(stand.url, { canned: upstream.url }))["canned-oauth"];
      if (!call || stand.databaseUrl === null) throw new Error("a stand has no grant to grow from");
      const { users, plan, said } = await grow(placeOf(stand.databaseUrl), size);
      tell(`${name}: ${said}\n${plan.map((line) => `    ${line}`).join("\n")}`);
      if (scans(plan)) scanning.push(name);
      ways.push({ name, call: { ...call, users }, server: stand.server });
    }
    groups.push(ways);
  }
  // Not before the last is filled: a broker that nobody calls for minutes may give up what V8 made of its code.
  for (const { call } of groups.flat()) await greet(call);
  for (const connections of CONNECTIONS) {
    // What the first number of connections has warmed is warm for the next.
    const warmS = connections === CONNECTIONS[0] ? WARM_S : 0;
    const rows = await rowsOf(groups.flat(), { connections, warmS, folder: stage.folder, ...rounds });
    const times = `${connections} ${connections === 1 ? "connection" : "connections"}`;
    const title = `oauth connection, \`store: false\`, each call another person's, ${times}`;
    const ofEngine = groups.map((ways) => rows.filter(({ name }) => ways.some((way) => way.name === name)));
    tell(`\n${comparison(title, ofEngine)}`);
  }
  return scanning;
}

/** Gives who is called for, and how the database finds a grant. */
async function grow(place: Place, size: number): Promise<{ users: string[]; plan: string[]; said: string }> {
  const begun = performance.now();
  const boxBytes = boxBytesAt(size);
  const store = await openStore({ database: place }, () => {});
  const filler = await openFiller(place, ANN).catch(async (error: unknown) => {
    await store.close();
    throw error;
  });
  try {
    const giver = await openGiver(store, { user: ANN, keyring: KEYRING, boxBytes: BOX_BYTES });
    const users = ["ann"];
    for (const { people, others } of slicesOf(size)) {
      users.push(...(await giver.give(people)));
      await filler.add(others, boxBytes);
    }
    const megabytes = Math.round((await filler.settle()) / 1e6);
    const { connectionId } = giver.model;
    const plan = await planOf(place, { project: PROJECT, connectionId, user: ANN });
    const seconds = ((performance.now() - begun) / 1_000).toFixed(0);
    const boxes = boxBytes < BOX_BYTES ? `${boxBytes} bytes, for the disk's sake` : `${boxBytes} bytes`;
    const said = `filled in ${seconds} s, ${megabytes} MB; ${users.length} people are called for, the others' boxes have ${boxes}`;
    return { users, plan, said };
  } finally {
    await filler.close();
    await store.close();
  }
}

/** Calls once for everybody: what a broker notes of a person whom it sees for the first time is no part of a call. */
async function greet({ url, headers, body, users = [] }: Call): Promise<void> {
  const left = users.values();
  const callForNext = async () => {
    for (const user of left) {
      const answer = await once({ url, body, headers: { ...headers, "x-ms-user-identity": user } });
      if (!answer.includes("a short answer"))
        throw new Error(`the call for ${user} came to nothing: ${answer}`);
    }
  };
  await Promise.all(Array.from({ length: GREETERS }, callForNext));
}
