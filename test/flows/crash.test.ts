import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Killed, startKilled } from "../helpers/killed.ts";
import { startBroker } from "../helpers/process.ts";
import { ADMIN_KEY, call, clientOf, itemsOf } from "../helpers/world.ts";

let killed: Killed;

beforeEach(async () => {
  killed = await startKilled();
});
afterEach(() => killed.stop());

const client = () => clientOf(killed.broker.url, ADMIN_KEY, { project: "default" });
const rest = (method: string, path: string, body: unknown) =>
  fetch(`${killed.broker.url}/api/projects/default/${path}`, {
    method,
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });

async function ask() {
  const tools = [{ type: "mcp" as const, server_label: "work" }];
  const response = await client().responses.create({ tools, input: [call("work", "work", {}, "c1")] });
  const id = itemsOf(response, "mcp_approval_request")[0]?.id ?? "";
  const approve = () =>
    client().responses.create({
      previous_response_id: response.id,
      input: [{ type: "mcp_approval_response", approval_request_id: id, approve: true }],
    });
  return { id, approve };
}

/** The lease of the dead process outlives the longest call: made to end sooner. Gives when. */
function endLeaseIn(ms: number): number {
  const database = new Database(killed.databasePath);
  const leaseUntil = Date.now() + ms;
  const { changes } = database
    .prepare("update held_calls set lease_until = ? where lease_until > ?")
    .run(leaseUntil, leaseUntil);
  database.close();
  if (changes !== 1) throw new Error(`${changes} leases`);
  return leaseUntil;
}

test("killed after the decision and before the dispatch: the call runs once, afterwards", async () => {
  const { id, approve } = await ask();
  const decided = await rest("POST", `approvals/${id}:decide`, { approve: true });
  expect(decided.status).toBe(200);
  await killed.broker.kill9();
  killed.broker = await startBroker(killed.env);
  expect(killed.runs).toBe(0);
  expect(itemsOf(await approve(), "mcp_call")).toMatchObject([{ id: "c1", output: "worked" }]);
  expect(itemsOf(await approve(), "mcp_call")).toEqual([]);
  expect(killed.runs).toBe(1);
});

test("killed while the tool runs: reported as failed, may have run, and never run again", async () => {
  const { approve } = await ask();
  const { pid } = killed.broker;
  killed.during = () => {
    process.kill(pid, "SIGKILL");
  };
  await expect(approve()).rejects.toThrow();
  await killed.broker.exited;
  killed.during = () => {};
  const leaseUntil = endLeaseIn(2_000);
  killed.broker = await startBroker(killed.env);
  // Until the lease of the dead process is over nobody knows; the answer waits for that.
  const [reported] = itemsOf(await approve(), "mcp_call");
  expect(reported).toMatchObject({ status: "failed", output: null });
  expect(JSON.stringify(reported?.error)).toContain("may have run");
  expect(Date.now()).toBeGreaterThanOrEqual(leaseUntil);
  expect(killed.runs).toBe(1);
});

test("killed after the answer: the approval is history", async () => {
  const { approve } = await ask();
  expect(itemsOf(await approve(), "mcp_call")).toHaveLength(1);
  await killed.broker.kill9();
  killed.broker = await startBroker(killed.env);
  const again = await approve();
  expect(itemsOf(again, "mcp_call")).toEqual([]);
  expect(again.output_text).toContain("already decided");
  expect(killed.runs).toBe(1);
});

test("asked to stop, it lets the call in flight finish and answers it", async () => {
  const begun = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  killed.during = () => {
    begun.resolve();
    return finish.promise;
  };
  const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];
  const asked = client().responses.create({ tools, input: [call("work", "work", {})] });
  await begun.promise;
  const stopped = killed.broker.stop();
  // Nobody new is let in.
  await expect
    .poll(() =>
      fetch(`${killed.broker.url}/healthz`).then(
        () => true,
        () => false,
      ),
    )
    .toBe(false);
  finish.resolve();
  expect(itemsOf(await asked, "mcp_call")).toMatchObject([{ output: "worked" }]);
  expect(await stopped).toBe(0);
});
