import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { REDIRECT_KEPT_MS, type RedirectOwner } from "../../src/core/connectors.ts";
import type { Store } from "../../src/core/storage.ts";
import { onEveryEngine } from "./engines.ts";
import { aConnection, aConnector, entry, newProject, race } from "./things.ts";

const fresh = () => randomBytes(16).toString("hex");

/** The events that name a connector; all connectors' audit is in one place. */
async function eventsOf(store: Store, connector: string) {
  const { rows } = await store.audit.list("", { connection: connector }, { after: null, limit: 99 });
  return rows.map((row) => row.event).toReversed();
}
const audited = (event: "connector_created" | "connector_changed" | "connector_deleted", name: string) => [
  entry("", event, { connection: name }),
];

onEveryEngine("connectors", (replicas) => {
  test("a connector comes back as it was, its box beside it; of twenty one gets the name", async () => {
    const { a, b } = replicas();
    const record = aConnector();
    const { name } = record.connector;
    const made = await race({ a, b }, (store, n) => {
      const mine = { ...record, connector: { ...record.connector, createdAt: n } };
      return store.connectors.insert(mine, audited("connector_created", name));
    });
    expect(made.filter(Boolean)).toHaveLength(1);
    const createdAt = made.indexOf(true);
    expect(await b.connectors.get(name)).toEqual({
      ...record,
      connector: { ...record.connector, createdAt },
    });
    expect(await b.connectors.get(`${name}x`)).toBeNull();
    expect(await eventsOf(a, name)).toEqual(["connector_created"]);
    const bare = { ...aConnector({ scopes: null, targets: [] }), sealed: null };
    await a.connectors.insert(bare, []);
    expect(await b.connectors.get(bare.connector.name)).toEqual(bare);
  });

  test("of twenty changes at a version one counts; the others leave no trace", async () => {
    const { a, b } = replicas();
    const record = aConnector();
    const { name } = record.connector;
    await a.connectors.insert(record, []);
    const next = (n: number) => ({
      sealed: new Uint8Array([n]),
      connector: { ...record.connector, scopes: [`s${n}`], version: 2, generation: 2, updatedAt: 2_000 },
    });
    const changed = await race({ a, b }, (store, n) =>
      store.connectors.replace(next(n), 1, audited("connector_changed", name)),
    );
    expect(changed.filter(Boolean)).toHaveLength(1);
    expect(await b.connectors.get(name)).toEqual(next(changed.indexOf(true)));
    expect(await eventsOf(a, name)).toEqual(["connector_changed"]);
  });

  test("one that was deleted and made again is another one: the old record does not replace it", async () => {
    const { a, b } = replicas();
    const old = aConnector({ createdAt: 1_000 });
    const { name } = old.connector;
    await a.connectors.insert(old, []);
    const gone = await Promise.all(
      [a, b, a].map((store) => store.connectors.delete(name, 2_000, audited("connector_deleted", name))),
    );
    expect(gone.filter(Boolean)).toHaveLength(1);
    expect(await b.connectors.get(name)).toBeNull();
    const again = aConnector({ name, createdAt: 3_000 });
    await a.connectors.insert(again, []);
    expect(await a.connectors.replace(old, 1, audited("connector_changed", name))).toBe(false);
    expect(await b.connectors.get(name)).toEqual(again);
    expect(await eventsOf(a, name)).toEqual(["connector_deleted"]);
  });

  test("the list is in order of name, paged, and without boxes", async () => {
    const { a, b } = replicas();
    const made = ["b", "a", "C"].map((letter) => aConnector({ name: `${letter}-${fresh()}` }));
    for (const record of made) await a.connectors.insert(record, []);
    const seen = [];
    for (let after: string | null = null; ;) {
      const page: Awaited<ReturnType<Store["connectors"]["list"]>> = await b.connectors.list({
        after,
        limit: 2,
      });
      seen.push(...page.rows);
      after = page.rows.at(-1)?.name ?? null;
      if (!page.more) break;
    }
    const names = seen.map((connector) => connector.name);
    expect(names).toEqual(names.toSorted());
    const own = made.map((record) => record.connector).toSorted((x, y) => (x.name < y.name ? -1 : 1));
    expect(seen.filter(({ name }) => own.some((each) => each.name === name))).toEqual(own);
  });
});

onEveryEngine("redirects", (replicas) => {
  const DAY = 24 * 60 * 60_000;
  const newOwner = async (store: Store): Promise<RedirectOwner & { kind: "connection" }> => ({
    kind: "connection",
    project: await newProject(store),
    name: "github",
  });

  test("of twenty that ensure an owner's redirect all receive the same", async () => {
    const { a, b } = replicas();
    const owners: RedirectOwner[] = [await newOwner(a), { kind: "connector", name: fresh() }];
    for (const owner of owners) {
      const given = await race({ a, b }, (store) => store.redirects.ensure(owner, fresh(), 1_000));
      expect(new Set(given).size).toBe(1);
      expect(await b.redirects.owner(given[0] ?? "", 1_000)).toEqual(owner);
      expect(await b.redirects.ensure(owner, fresh(), 400 * DAY)).toBe(given[0]);
    }
    expect(await b.redirects.owner(fresh(), 1_000)).toBeNull();
  });

  test("owners of the same name are not the same owner", async () => {
    const { a } = replicas();
    const [one, two] = [await newOwner(a), await newOwner(a)];
    const connector: RedirectOwner = { kind: "connector", name: one.name };
    const ids = [];
    for (const owner of [one, two, { ...one, name: "other" }, connector]) {
      ids.push(await a.redirects.ensure(owner, fresh(), 1_000));
    }
    expect(new Set(ids).size).toBe(4);
  });

  test("after its owner is deleted a redirect lives for thirty days, to the millisecond, and is not aged twice", async () => {
    const { a, b } = replicas();
    const owner = await newOwner(a);
    const redirectId = await a.redirects.ensure(owner, fresh(), 1_000);
    await a.connections.insert(aConnection(owner.project, { redirectId }), []);
    await a.connections.delete(owner.project, owner.name, 5_000, []);
    await a.connections.delete(owner.project, owner.name, 9_000_000, []);
    const end = 5_000 + REDIRECT_KEPT_MS;
    expect(await b.redirects.owner(redirectId, end - 1)).toEqual(owner);
    expect(await b.redirects.owner(redirectId, end)).toBeNull();
    const next = fresh();
    expect(await b.redirects.ensure(owner, next, end)).toBe(next);
    expect(await a.redirects.owner(next, end * 2)).toEqual(owner);
    expect(await a.redirects.owner(redirectId, 1_000)).toBeNull();
  });

  test("an owner that is made again in time keeps its redirect, for good", async () => {
    const { a, b } = replicas();
    const owner = await newOwner(a);
    const redirectId = await a.redirects.ensure(owner, fresh(), 1_000);
    await a.connections.insert(aConnection(owner.project, { redirectId }), []);
    await a.connections.delete(owner.project, owner.name, 5_000, []);
    expect(await b.redirects.ensure(owner, fresh(), 4_999 + REDIRECT_KEPT_MS)).toBe(redirectId);
    expect(await a.redirects.owner(redirectId, 400 * DAY)).toEqual(owner);
  });

  test("a deletion between an owner's redirect and its row does not leave the redirect ageing", async () => {
    const { a, b } = replicas();
    const owner = await newOwner(a);
    const redirectId = await a.redirects.ensure(owner, fresh(), 1_000);
    await a.connections.insert(aConnection(owner.project, { redirectId }), []);
    expect(await a.redirects.ensure(owner, fresh(), 2_000)).toBe(redirectId);
    await b.connections.delete(owner.project, owner.name, 2_500, []);
    await a.connections.insert(aConnection(owner.project, { redirectId }), []);
    expect(await b.redirects.owner(redirectId, 400 * DAY)).toEqual(owner);

    const { connector, sealed } = aConnector();
    const own: RedirectOwner = { kind: "connector", name: connector.name };
    const id = await a.redirects.ensure(own, fresh(), 1_000);
    const record = { connector: { ...connector, redirectId: id }, sealed };
    await a.connectors.insert(record, []);
    await b.connectors.delete(connector.name, 2_500, []);
    expect(await b.redirects.owner(id, 2_500 + REDIRECT_KEPT_MS)).toBeNull();
    await a.connectors.insert(record, []);
    expect(await b.redirects.owner(id, 400 * DAY)).toEqual(own);
  });
});
