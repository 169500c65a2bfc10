import { join } from "node:path";
import { startAuthServer } from "../demo/auth-server.ts";
import { ACCOUNT, prepare } from "./broker.ts";
import { type Setup } from "./engines.ts";
import { type Call, once } from "./load.ts";
import { type Server, startNode } from "./processes.ts";
import { type Rounds, rowsOf } from "./rounds.ts";
import { type Stage, type Stand, startStand } from "./stands.ts";
import { comparison } from "./table.ts";

const CONNECTIONS = [1, 32];
const CALLS = ["canned-key", "canned-oauth"];

/** The same calls on engines and numbers of replicas. `tell` is given each table when it is there. */
export async function compareSetups(
  setups: readonly Setup[],
  stage: Stage,
  { tell, ...rounds }: Omit<Rounds, "connections" | "folder"> & { tell: (table: string) => void },
): Promise<void> {
  const upstream = await startCanned(stage);
  const stands: { stand: Stand; calls: Record<string, Call> }[] = [];
  for (const [at, setup] of setups.entries()) {
    const stand = await startStand({ ...setup, database: `stand${at}` }, stage);
    stands.push({ stand, calls: await prepare(stand.url, { canned: upstream.url }) });
  }
  for (const name of CALLS) {
    for (const kind of ["plain", "stored"] as const) {
      const ways = stands.map(({ stand, calls }) => ({
        name: stand.name,
        server: stand.server,
        call: asKind(kind, calls[name]),
      }));
      for (const { call } of ways) await once(call);
      for (const connections of CONNECTIONS) {
        // What the first number of connections has warmed is warm for the next.
        const warmS = connections === CONNECTIONS[0] ? 1 : 0;
        const rows = await rowsOf(ways, { connections, warmS, folder: stage.folder, ...rounds });
        tell(comparison(titleFor({ name, kind, connections }), [rows]));
      }
    }
  }
}

/** The canned server, and who gives tokens for it. */
export async function startCanned({ closing }: Pick<Stage, "closing">): Promise<Server> {
  const authServer = await startAuthServer([ACCOUNT]);
  closing.push(authServer.stop);
  const args = [join(import.meta.dirname, "upstream.ts"), "canned", authServer.issuer];
  const upstream = await startNode(args);
  closing.push(upstream.stop);
  return upstream;
}

type Kind = "plain" | "stored";

function asKind(kind: Kind, call: Call | undefined): Call {
  if (!call) throw new Error("there is no such call");
  return { ...call, body: JSON.stringify({ ...JSON.parse(call.body), store: kind === "stored" }) };
}

function titleFor({ name, kind, connections }: { name: string; kind: Kind; connections: number }): string {
  const what = kind === "stored" ? "a stored response" : "`store: false`";
  const times = `${connections} ${connections === 1 ? "connection" : "connections"}`;
  return `${name.replace("canned-", "")} connection, ${what}, ${times}`;
}
