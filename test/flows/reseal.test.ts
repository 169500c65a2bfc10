// Sealing anew as the broker does it, in a process of its own: ten thousand boxes, and a power cut in the middle.
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { countBoxes, totalOf } from "../../src/core/box-counts.ts";
import { grantAad } from "../../src/core/grants.ts";
import { itemAad, type Store } from "../../src/core/storage.ts";
import { parseKeyring } from "../../src/secrets/keyring.ts";
import { keyIdOf } from "../../src/secrets/seal.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { giveGrant } from "../helpers/grants.ts";
import { resealing } from "../helpers/keyrings.ts";
import { type BrokerProcess, startBroker } from "../helpers/process.ts";
import { ADMIN_KEY } from "../helpers/world.ts";
import { migrations } from "../store/engines.ts";
import { aGrant, aResponse, id, itemRows, newProject, newTokens, stored } from "../store/things.ts";

const line = (name: string) => `${name}:${randomBytes(32).toString("base64")}`;
const [old, next] = [line("old"), line("next")];

let folder: string;
let store: Store;
let broker: BrokerProcess | null;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-reseal-"));
  store = openSqlite(join(folder, "consentry.db"), { migrations: migrations.sqlite });
  broker = null;
});
afterEach(async () => {
  await broker?.kill9();
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

const start = () =>
  startBroker({
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_ADMIN_KEY: ADMIN_KEY,
    CONSENTRY_KEYRING: `${next},${old}`,
  });
const left = async (name: string) => totalOf(await countBoxes(store.upkeep.boxes, { named: keyIdOf }), name);

async function fill(count: number) {
  const { sealer } = resealing(store, parseKeyring(old));
  const project = await newProject(store);
  const response = stored(aResponse(project), { end: count });
  const rows = await Promise.all(
    itemRows(0, count).map(async (row) => ({
      ...row,
      sealed: await sealer.seal(`item ${row.position}`, itemAad(project, response.threadId, row.position)),
    })),
  );
  await store.responses.append(response, rows, []);
  return { project, threadId: response.threadId };
}

test("ten thousand boxes, while a grant is refreshed all the time and the process dies in the middle", async () => {
  const { project, threadId } = await fill(10_000);
  // Another replica, that refreshes.
  const replica = resealing(store, parseKeyring(`${next},${old}`)).sealer;
  const grant = aGrant(project);
  const first = await resealing(store, parseKeyring(old)).sealer.seal("version 1", grantAad(grant));
  await giveGrant(store, { ...grant, sealed: first });
  let version = 1;
  const refresh = async () => {
    const now = await store.grants.get(grant);
    expect(await replica.open(now?.sealed ?? first, grantAad(now ?? grant))).toBe(`version ${version}`);
    const sealed = await replica.seal(`version ${version + 1}`, grantAad({ ...grant, version: version + 1 }));
    expect(await store.grants.refreshed(grant, version, newTokens({ sealed }), [])).not.toBeNull();
    version++;
  };

  broker = await start();
  await expect.poll(() => left("old"), { timeout: 60_000, interval: 5 }).toBeLessThan(9_000);
  await broker.kill9();
  await refresh();
  expect(await left("old")).toBeGreaterThan(0);
  await endLease(store);

  broker = await start();
  await expect
    .poll(
      async () => {
        await refresh();
        return left("old");
      },
      { timeout: 90_000, interval: 50 },
    )
    .toBe(0);
  expect(await broker.stop()).toBe(0);

  const { sealer } = resealing(store, parseKeyring(next));
  const items = await store.responses.items(project, threadId, 0, 10_000);
  const texts = await Promise.all(
    items.map((item) => sealer.open(item.sealed, itemAad(project, threadId, item.position))),
  );
  expect(texts).toEqual(Array.from({ length: 10_000 }, (_, position) => `item ${position}`));
  const now = await store.grants.get(grant);
  expect(await sealer.open(now?.sealed ?? first, grantAad(now ?? grant))).toBe(`version ${version}`);
}, 240_000);

/** As if a minute had gone by. */
async function endLease({ upkeep }: Store): Promise<void> {
  const later = Date.now() + 120_000;
  const holder = id("w");
  expect(await upkeep.leases.take({ name: "reseal", holder, until: later, now: later })).not.toBeNull();
  await upkeep.leases.release({ name: "reseal", holder });
}
