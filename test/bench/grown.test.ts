import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterAll, describe, expect, inject, test } from "vitest";
import { openFiller, type Place, placeOf } from "../../bench/grown-fill.ts";
import { openGiver, PROJECT, widened } from "../../bench/grown-people.ts";
import { planOf, scans } from "../../bench/grown-plan.ts";
import { boxBytesAt, PEOPLE, sizesOf, slicesOf } from "../../bench/grown-sizes.ts";
import { type Grant, grantAad } from "../../src/core/grants.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import type { Store } from "../../src/core/storage.ts";
import { openStore } from "../../src/database.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { parseKeyring } from "../../src/secrets/keyring.ts";
import { createSealer } from "../../src/secrets/seal.ts";
import { giveGrant } from "../helpers/grants.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { aGrant } from "../store/things.ts";

const KEYRING = `k1:${Buffer.alloc(32, 1).toString("base64")}`;
const ANN = "app:ann";
const folder = mkdtempSync(join(tmpdir(), "consentry-grown-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("what a table of grants is asked to be", () => {
  test("it has room for those who are called for", () => {
    expect(sizesOf("1000000,1000")).toEqual([1_000, 1_000_000]);
    expect(() => sizesOf("999")).toThrow("--grants is numbers from 1000 on");
    expect(() => sizesOf("many")).toThrow("--grants is numbers from 1 on");
  });

  test.each([1_000, 1_001, 20_000, 1_000_000])("of %d grants a thousand lie among the others", (size) => {
    const slices = slicesOf(size);
    const sum = (of: "people" | "others") => slices.reduce((all, slice) => all + slice[of], 0);
    // Of the one who is there already everything is made.
    expect(1 + sum("people")).toBe(PEOPLE);
    expect(PEOPLE + sum("others")).toBe(size);
    expect(Math.max(...slices.map(({ people }) => people))).toBeLessThanOrEqual(PEOPLE / 100);
  });

  test("boxes are as in life until a disk would not hold them", () => {
    expect(boxBytesAt(1_000)).toBe(2_700);
    expect(boxBytesAt(100_000)).toBe(2_700);
    expect(1_000_000 * boxBytesAt(1_000_000)).toBeLessThanOrEqual(900e6);
  });

  test("tokens are made as long as a box is to be, and the one that is sent stays", () => {
    const tokens = JSON.stringify({ accessToken: "sent", refreshToken: "short" });
    const wide = widened(tokens, 2_700);
    expect(wide).toHaveLength(2_700);
    expect(JSON.parse(wide)).toMatchObject({ accessToken: "sent" });
    expect(JSON.parse(widened(tokens, 1)).refreshToken).not.toBe("");
  });
});

describe("what a plan says", () => {
  test.each([
    ["SEARCH grants USING INDEX grants_by_key (project=? AND connection_id=? AND user_id=?)"],
    ["Index Scan using grants_by_user on grants", "Index Cond: ((project = 'p') AND (user_id = 'app:ann'))"],
    ["Bitmap Heap Scan on grants", "->  Bitmap Index Scan on grants_by_key", "Index Cond: (user_id = 'a')"],
  ])("%s… goes to a person's rows", (...plan) => {
    expect(scans(plan)).toBe(false);
  });

  test.each([
    ["SCAN grants"],
    ["SCAN grants USING INDEX grants_by_key"],
    ["SEARCH grants USING INDEX grants_by_connection (project=? AND connection_id=?)"],
    ["Seq Scan on grants", "Filter: (user_id = 'app:ann')"],
    ["Parallel Seq Scan on grants"],
    [
      "Index Scan using grants_by_connection on grants",
      "Index Cond: (project = 'p')",
      "Filter: (user_id = 'a')",
    ],
    [],
  ])("%s is a scan", (...plan) => {
    expect(scans(plan)).toBe(true);
  });
});

describe.each(["sqlite", "postgres"] as const)("on %s", (engine) => {
  const isThere = engine === "sqlite" || inject("postgresUrl") !== "";
  const create = async () =>
    placeOf(
      engine === "sqlite" ? `file:${join(folder, `${crypto.randomUUID()}.db`)}` : await createDatabase(),
    );

  test.skipIf(!isThere)("others are filled in beside those who are given grants that open", async () => {
    const place = await create();
    const store = await openStore({ database: place }, () => {});
    await begin(store);
    const giver = await openGiver(store, { user: ANN, keyring: KEYRING, boxBytes: 500 });
    const filler = await openFiller(place, ANN);
    const [one = ""] = await giver.give(1);
    await filler.add(30, 400);
    const [other = ""] = await giver.give(1);

    const { rows } = await store.grants.list(PROJECT, {}, { after: null, limit: 100 });
    expect(new Set(rows.map(({ user }) => user)).size).toBe(33);
    expect(rows.filter(({ sealed }) => sealed.length === 400)).toHaveLength(30);
    // Each of the others has a row, as whoever is called for the first time has.
    expect((await store.users.list(PROJECT, { after: null, limit: 100 })).rows).toHaveLength(31);
    for (const name of [one, other]) {
      const grant = await store.grants.get({ ...giver.model, user: `app:${name}` });
      expect(grant && (await opened(grant))).toContain('"accessToken":"anns"');
    }
    expect(await filler.settle()).toBeGreaterThan(10_000);
    await filler.close();
    await store.close();
  });

  test.skipIf(!isThere)("nothing is filled in without somebody whom the others are like", async () => {
    const place = await create();
    const store = await openStore({ database: place }, () => {});
    const filler = await openFiller(place, ANN);
    await expect(filler.add(5, 100)).rejects.toThrow("5 grants were to be filled in, not 0");
    await filler.close();
    await store.close();
  });

  test.skipIf(!isThere)("the store's own lookup goes to the row", async () => {
    const place = await create();
    const store = await openStore({ database: place }, () => {});
    const grant = await begin(store);
    const filler = await openFiller(place, ANN);
    await filler.add(2_000, 100);
    await filler.settle();
    expect(scans(await planOf(place, grant))).toBe(false);
    await filler.close();
    await store.close();
  });
});

test("a lookup without the indexes that begin with a person is found out", async () => {
  const place: Place = { kind: "sqlite", path: join(folder, "bare.db") };
  const store = await openStore({ database: place }, () => {});
  const grant = await begin(store);
  await store.close();
  const file = new Database(place.path);
  for (const index of ["grants_by_key", "grants_by_user"]) file.exec(`drop index ${index}`);
  file.close();
  expect(scans(await planOf(place, grant))).toBe(true);
});

/** The project, Ann's row, and her grant. */
async function begin(store: Store): Promise<Grant> {
  await store.projects.insert({ name: PROJECT, settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 }, []);
  const grant: Grant = { ...aGrant(PROJECT), user: ANN };
  await store.users.note({ project: PROJECT, id: ANN, status: "active", createdAt: 1 });
  const sealed = await sealer.seal(JSON.stringify({ accessToken: "anns" }), grantAad(grant));
  return giveGrant(store, { ...grant, sealed });
}

const sealer = createSealer({ keyring: parseKeyring(KEYRING), suite: createNodeCrypto() });
const opened = (grant: Grant) => sealer.open(grant.sealed, grantAad(grant));
