// A program of its own for sqlite.test.ts: opens the database, tries to approve each held call, prints those it won.
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import type { HeldCallId } from "../../src/core/ids.ts";
import { entry } from "./things.ts";

const [path = "", migrations = "", project = "", name = "", ...ids] = process.argv.slice(2);
const store = openSqlite(path, { migrations });
const won: string[] = [];
for (const id of ids) {
  const decided = await store.heldCalls.decide(
    { project, id: id as HeldCallId, approve: true, decidedBy: name, sealedReason: null, now: 2_000 },
    [{ ...entry(project, "approval_approved", { approvalId: id, principal: name }), id: `evt_${name}${id}` }],
  );
  if (decided) won.push(id);
}
await store.close();
console.log(JSON.stringify(won));
