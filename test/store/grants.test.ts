import { expect, test } from "vitest";
import type { Grant, GrantKey } from "../../src/core/grants.ts";
import type { Store } from "../../src/core/storage.ts";
import { giveGrant } from "../helpers/grants.ts";
import { onEveryEngine } from "./engines.ts";
import {
  EVERYTHING,
  aConnection,
  aConsent,
  aGrant,
  authorizing,
  bigBox,
  entry,
  eventsOf,
  id,
  isThere,
  newProject,
  newTokens,
  race,
} from "./things.ts";

const keyOf = ({ project, connectionId, user }: Grant): GrantKey => ({ project, connectionId, user });

/** A grant of a new project, at version 1. */
async function newGrant(store: Store, more: Partial<Grant> = {}): Promise<Grant> {
  const grant = aGrant(await newProject(store), more);
  return giveGrant(store, grant);
}

onEveryEngine("grants: as they are kept", (replicas) => {
  test("a grant comes back as it was, by its key and by its id, in its project only", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const full = aGrant(project, {
      user: "app:nul\u0000:and:colons",
      status: "needs_consent",
      reason: "client_changed",
      refreshedAt: 1_760_000_000_001,
      lastUsedAt: 1_760_000_000_002,
      lastUsedBy: "key:runtime",
    });
    const bare = aGrant(project, { resource: null, expiresAt: null, hasRefreshToken: false, scopes: [] });
    for (const grant of [full, bare]) {
      expect(await giveGrant(a, grant)).toEqual(grant);
      expect(await b.grants.get(keyOf(grant))).toEqual(grant);
      expect(await b.grants.find(project, grant.id)).toEqual(grant);
      const other = await newProject(a);
      expect(await b.grants.get({ ...keyOf(grant), project: other })).toBeNull();
      expect(await b.grants.find(other, grant.id)).toBeNull();
    }
    expect(await b.grants.get({ ...keyOf(full), user: "app:bob" })).toBeNull();
    expect(await b.grants.get({ ...keyOf(full), connectionId: id("conn") })).toBeNull();
  });

  test("a box of any size is whole, and the one before is gone", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a, { sealed: bigBox(2_000_000) });
    const key = keyOf(grant);
    const sizes = async () => [
      (await b.grants.get(key))?.sealed.length,
      (await b.grants.find(grant.project, grant.id))?.sealed.length,
      (await b.grants.list(grant.project, { user: grant.user }, EVERYTHING)).rows[0]?.sealed.length,
    ];
    expect(await sizes()).toEqual(Array(3).fill(2_000_000));
    for (const [at, size] of [1_300_000, 300_001, 300_000, 12].entries()) {
      const sealed = bigBox(size);
      const refreshed = await a.grants.refreshed(key, at + 1, newTokens({ sealed }), []);
      expect(refreshed?.sealed.length).toBe(size);
      expect(await sizes()).toEqual(Array(3).fill(size));
      const found = (await b.grants.get(key))?.sealed ?? new Uint8Array();
      expect(Buffer.compare(found, sealed)).toBe(0);
    }
  });

  test("who reads while a big box changes sees one of them, never a piece of two", async () => {
    const { a, b } = replicas();
    const size = (version: number) => 1_000_000 + version;
    const grant = await newGrant(a, { sealed: bigBox(size(1)) });
    const key = keyOf(grant);
    let writing = true;
    const write = async () => {
      for (let version = 1; version < 15; version++) {
        await a.grants.refreshed(key, version, newTokens({ sealed: bigBox(size(version + 1)) }), []);
      }
      writing = false;
    };
    const read = async () => {
      const seen: (Grant | null | undefined)[] = [];
      while (writing) {
        const { rows } = await b.grants.list(grant.project, {}, EVERYTHING);
        seen.push(await b.grants.get(key), await b.grants.find(grant.project, grant.id), rows[0]);
      }
      return seen;
    };
    const [seen] = await Promise.all([read(), write()]);
    expect(seen.length).toBeGreaterThan(0);
    expect(seen.filter((found) => found?.sealed.length !== size(found?.version ?? 0))).toEqual([]);
  });

  test("lists are of a connection or of a user, in order of id, page by page, and of one project", async () => {
    const { a, b } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const [one, two] = [id("conn"), id("conn")];
    const keys = [one, two].flatMap((connectionId) =>
      Array.from({ length: 11 }, (_, n) => ({ connectionId, user: `app:u${n}` as const })),
    );
    const mine = keys.map((key) => aGrant(project, key));
    for (const grant of [...mine, ...keys.map((key) => aGrant(other, key))]) await giveGrant(a, grant);
    const all = async (filter: Parameters<Store["grants"]["list"]>[1], limit: number) => {
      const ids: string[] = [];
      for (let after: string | null = null; ;) {
        const page: Awaited<ReturnType<Store["grants"]["list"]>> = await b.grants.list(project, filter, {
          after,
          limit,
        });
        expect(page.rows.length).toBeLessThanOrEqual(limit);
        ids.push(...page.rows.map((grant) => grant.id));
        after = page.rows.at(-1)?.id ?? null;
        if (!page.more) return ids;
      }
    };
    const idsOf = (grants: Grant[]) => grants.map((grant) => grant.id).toSorted();
    expect(await all({ connectionId: one }, 4)).toEqual(
      idsOf(mine.filter((grant) => grant.connectionId === one)),
    );
    expect(await all({ user: "app:u3" }, 1)).toEqual(idsOf(mine.filter((grant) => grant.user === "app:u3")));
    expect(await all({ connectionId: two, user: "app:u3" }, 5)).toHaveLength(1);
    expect(await all({}, 7)).toEqual(idsOf(mine));
    expect(await all({ user: "app:nobody" }, 7)).toEqual([]);
  });

  test("a use is remembered and changes nothing else", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a);
    await a.grants.used(keyOf(grant), { at: 5_000_000_000_000, by: "key:runtime" });
    await a.grants.used({ ...keyOf(grant), user: "app:bob" }, { at: 6, by: "key:else" });
    const used = { ...grant, lastUsedAt: 5_000_000_000_000, lastUsedBy: "key:runtime" };
    expect(await b.grants.get(keyOf(grant))).toEqual(used);
    await b.grants.used(keyOf(grant), { at: 5_000_000_000_001, by: null });
    expect(await a.grants.get(keyOf(grant))).toEqual({
      ...used,
      lastUsedAt: 5_000_000_000_001,
      lastUsedBy: null,
    });
  });

  test("a grant stays when its connection is deleted, revoked and whole, for its server is still to be told", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const { connection, sealed } = aConnection(project);
    const grant = aGrant(project, { connectionId: connection.id });
    await a.connections.insert({ connection, sealed }, []);
    await giveGrant(a, grant);
    await a.connections.delete(project, connection.name, 5_000, []);
    expect(await a.grants.get(keyOf(grant))).toEqual({ ...grant, status: "revoked" });
  });
});

onEveryEngine("grants: how they change", (replicas) => {
  const take = (grant: Grant, lease: string, times: { now: number; leaseUntil: number }) => ({
    key: keyOf(grant),
    version: grant.version,
    lease,
    ...times,
  });

  test("of twenty that want the lease one has it, and receives the row", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a, { sealed: bigBox(400_000) });
    const leased = await race({ a, b }, (store, n) =>
      store.grants.lease(take(grant, `w_${n}`, { now: 1_000, leaseUntil: 41_000 + n })),
    );
    const winner = leased.findIndex(isThere);
    expect(leased.filter(isThere)).toEqual([{ ...grant, lease: `w_${winner}`, leaseUntil: 41_000 + winner }]);
    expect(await b.grants.get(keyOf(grant))).toEqual(leased[winner]);
  });

  test("a lease that holds cannot be taken, one that has ended can, by one", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a);
    await a.grants.lease(take(grant, "w_dead", { now: 1_000, leaseUntil: 5_000 }));
    const again = (now: number) => (store: Store, n: number) =>
      store.grants.lease(take(grant, `w_${n}`, { now, leaseUntil: 9_000 }));
    expect((await race({ a, b }, again(4_999))).filter(isThere)).toEqual([]);
    expect((await race({ a, b }, again(5_000))).filter(isThere)).toEqual([]);
    expect((await a.grants.get(keyOf(grant)))?.lease).toBe("w_dead");
    expect((await race({ a, b }, again(5_001))).filter(isThere)).toHaveLength(1);
  });

  test("a lease is for the version that was read, and for an active grant", async () => {
    const { a } = replicas();
    const times = { now: 1_000, leaseUntil: 5_000 };
    const moved = await newGrant(a);
    await a.grants.refreshed(keyOf(moved), 1, newTokens(), []);
    expect(await a.grants.lease(take(moved, "w_1", times))).toBeNull();
    const dead = await newGrant(a);
    await a.grants.fail(keyOf(dead), 1, "invalid_grant", []);
    expect(await a.grants.lease(take(dead, "w_1", times))).toBeNull();
    const revoked = await newGrant(a);
    await a.grants.revoke(keyOf(revoked), 9_000, []);
    expect(await a.grants.lease(take({ ...revoked, version: 2 }, "w_1", times))).toBeNull();
    expect(await a.grants.lease(take(aGrant(dead.project), "w_1", times))).toBeNull();
  });

  test("a lease is given back by who has it, and nobody else", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a);
    await a.grants.lease(take(grant, "w_1", { now: 1_000, leaseUntil: 5_000 }));
    await b.grants.release(keyOf(grant), "w_2");
    await b.grants.release({ ...keyOf(grant), user: "app:bob" }, "w_1");
    expect((await b.grants.get(keyOf(grant)))?.lease).toBe("w_1");
    await a.grants.release(keyOf(grant), "w_1");
    expect(await b.grants.get(keyOf(grant))).toEqual(grant);
    expect(await b.grants.lease(take(grant, "w_2", { now: 1_001, leaseUntil: 5_000 }))).not.toBeNull();
  });

  test("refreshed tokens are the next version, and end the lease", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a);
    await a.grants.lease(take(grant, "w_1", { now: 1_000, leaseUntil: 5_000 }));
    const { at, ...tokens } = newTokens({ sealed: bigBox(700_000), expiresAt: null, hasRefreshToken: false });
    const refreshed = await a.grants.refreshed(keyOf(grant), 1, { at, ...tokens }, [
      entry(grant.project, "grant_refreshed"),
    ]);
    expect(refreshed).toEqual({ ...grant, ...tokens, version: 2, refreshedAt: at });
    expect(await b.grants.get(keyOf(grant))).toEqual(refreshed);
    expect(await eventsOf(b, grant.project)).toEqual(["grant_refreshed"]);
  });

  test("at a version that has moved nothing is written, not even to the audit", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a);
    const first = await a.grants.refreshed(keyOf(grant), 1, newTokens({ sealed: bigBox(350_000) }), []);
    const audit = () => [entry(grant.project, "grant_refreshed")];
    const late = newTokens({ sealed: bigBox(990_000) });
    expect(await b.grants.refreshed(keyOf(grant), 1, late, audit())).toBeNull();
    expect(await b.grants.refreshed(keyOf(grant), 3, late, audit())).toBeNull();
    expect(await b.grants.refreshed(keyOf(aGrant(grant.project)), 1, late, audit())).toBeNull();
    expect(await a.grants.get(keyOf(grant))).toEqual(first);
    expect(await eventsOf(a, grant.project)).toEqual([]);
  });

  test("of twenty that write the same version one does, with its box and its audit", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a);
    const written = await race({ a, b }, (store, n) =>
      store.grants.refreshed(keyOf(grant), 1, newTokens({ sealed: bigBox(301_000 + n), at: n }), [
        entry(grant.project, "grant_refreshed", { principal: `by ${n}` }),
      ]),
    );
    const winner = written.findIndex(isThere);
    expect(written.filter(isThere)).toHaveLength(1);
    expect(written[winner]).toMatchObject({ version: 2, refreshedAt: winner });
    expect(await b.grants.get(keyOf(grant))).toEqual(written[winner]);
    const { rows } = await a.audit.list(grant.project, {}, EVERYTHING);
    expect(rows.map((row) => row.principal)).toEqual([`by ${winner}`]);
  });

  test("a refresh that lost its lease but not the version still counts: the version is the fence", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a);
    await a.grants.lease(take(grant, "w_slow", { now: 1_000, leaseUntil: 5_000 }));
    expect(await b.grants.lease(take(grant, "w_second", { now: 6_000, leaseUntil: 9_000 }))).not.toBeNull();
    const slow = await a.grants.refreshed(keyOf(grant), 1, newTokens(), []);
    expect(slow).toMatchObject({ version: 2, lease: null, leaseUntil: null });
    expect(await b.grants.refreshed(keyOf(grant), 1, newTokens({ at: 7 }), [])).toBeNull();
    await b.grants.release(keyOf(grant), "w_second");
    expect(await b.grants.get(keyOf(grant))).toEqual(slow);
  });

  test("a grant that fails keeps its box and its version, and gives the lease up", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a, { sealed: bigBox(1_234_567) });
    const fail = (version: number) =>
      b.grants.fail(keyOf(grant), version, "invalid_grant", [entry(grant.project, "grant_failed")]);
    await a.grants.lease(take(grant, "w_1", { now: 1_000, leaseUntil: 5_000 }));
    expect(await fail(2)).toBeNull();
    const failed = { ...grant, status: "needs_consent", reason: "invalid_grant" };
    expect(await fail(1)).toEqual(failed);
    expect(await fail(1)).toBeNull();
    expect(await a.grants.get(keyOf(grant))).toEqual(failed);
    expect(await eventsOf(a, grant.project)).toEqual(["grant_failed"]);
  });

  test("of a failure and a refresh at the same version one counts", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const grant = await newGrant(a);
      const fail = (store: Store) =>
        store.grants.fail(keyOf(grant), 1, "invalid_grant", [entry(grant.project, "grant_failed")]);
      const refresh = (store: Store) =>
        store.grants.refreshed(keyOf(grant), 1, newTokens(), [entry(grant.project, "grant_refreshed")]);
      const [first, second] = round % 2 ? [fail, refresh] : [refresh, fail];
      const results = await Promise.all([first(a), second(b)]);
      const [winner, ...others] = results.filter(isThere);
      expect(others).toEqual([]);
      expect(await b.grants.get(keyOf(grant))).toEqual(winner);
      expect(await eventsOf(a, grant.project)).toEqual([
        winner?.status === "active" ? "grant_refreshed" : "grant_failed",
      ]);
    }
  });

  test("revoking keeps the box and its version, and gives the row to one of twenty", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a, { sealed: bigBox(1_200_000), reason: "odd" });
    await a.grants.used(keyOf(grant), { at: 3, by: "key:runtime" });
    await a.grants.lease(take(grant, "w_1", { now: 1_000, leaseUntil: 5_000 }));
    const revoked = await race({ a, b }, (store) =>
      store.grants.revoke(keyOf(grant), 9_000, [entry(grant.project, "grant_revoked")]),
    );
    const now = { ...grant, status: "revoked", reason: null, lastUsedAt: 3, lastUsedBy: "key:runtime" };
    expect(revoked.filter(isThere)).toEqual([now]);
    expect(await b.grants.get(keyOf(grant))).toEqual(now);
    expect(await eventsOf(a, grant.project)).toEqual(["grant_revoked"]);
    expect(await a.grants.revoke(keyOf(aGrant(grant.project)), 9_000, [])).toBeNull();
    expect(await a.grants.revoke({ ...keyOf(grant), project: await newProject(a) }, 9_000, [])).toBeNull();
  });

  test("what needs consent is revoked as well; what is revoked is neither leased, refreshed nor failed", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a, { sealed: bigBox(500_000) });
    await a.grants.fail(keyOf(grant), 1, "invalid_grant", []);
    const revoked = await b.grants.revoke(keyOf(grant), 9_000, []);
    expect(revoked).toEqual({ ...grant, status: "revoked" });
    const audit = () => [entry(grant.project, "grant_failed")];
    expect(await a.grants.refreshed(keyOf(grant), 1, newTokens(), audit())).toBeNull();
    expect(await a.grants.fail(keyOf(grant), 1, "invalid_grant", audit())).toBeNull();
    expect(await a.grants.lease(take(grant, "w_1", { now: 1_000, leaseUntil: 5_000 }))).toBeNull();
    expect(await a.grants.get(keyOf(grant))).toEqual(revoked);
    expect(await eventsOf(a, grant.project)).toEqual([]);
    const again = aGrant(grant.project, { ...keyOf(grant), version: 1_001 });
    expect(await giveGrant(a, again)).toEqual(again);
    expect(await b.grants.get(keyOf(grant))).toEqual(again);
  });

  test("revoking fails the consent of its key, open or under way, and nobody else's", async () => {
    const { a, b } = replicas();
    for (const isStarted of [false, true]) {
      const grant = await newGrant(a);
      const { project, connectionId, user } = grant;
      const mine = aConsent(project, { connectionId, user, browserHash: "browser" });
      const others = [
        aConsent(project, { connectionId, user: "app:bob" }),
        aConsent(project, { user }),
        aConsent(await newProject(a), { connectionId, user }),
      ];
      for (const each of [mine, ...others]) await a.consents.open(each, []);
      const start = authorizing(mine);
      if (isStarted) await a.consents.authorize(start, []);
      await a.grants.revoke({ ...keyOf(grant), connectionId: id("conn") }, 8_999, []);
      expect((await b.consents.find(mine.id))?.outcome).toBeNull();
      await b.grants.revoke(keyOf(grant), 9_000, []);
      const failed = { status: "failed", outcome: "disconnected", endedAt: 9_000, sealedFlow: null };
      expect(await a.consents.find(mine.id)).toMatchObject(failed);
      const next = { ...grant, version: 1_001 };
      expect(await a.grants.put(next, { id: mine.id, attempt: start.attempt, at: 9_001 }, [])).toBeNull();
      for (const each of others) expect(await a.consents.find(each.id)).toEqual(each);
      // The next question is another matter, and a revocation that comes late leaves it alone.
      const later = { ...mine, id: id("oauthreq") };
      expect((await a.consents.open(later, [])).isNew).toBe(true);
      expect(await b.grants.revoke(keyOf(grant), 9_002, [])).toBeNull();
      expect(await b.consents.find(later.id)).toEqual(later);
    }
  });

  test("of a revocation and a consent that is finished at the same time, the grant is gone in the end", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const grant = await newGrant(a);
      const { project, connectionId, user } = grant;
      const consent = aConsent(project, { connectionId, user, browserHash: "browser" });
      await a.consents.open(consent, []);
      const start = authorizing(consent);
      await a.consents.authorize(start, []);
      const next = { ...grant, version: 1_001 };
      const [made, revoked] = await Promise.all([
        a.grants.put(next, { id: consent.id, attempt: start.attempt, at: 8_000 }, []),
        b.grants.revoke(keyOf(grant), 9_000, []),
      ]);
      expect(revoked).toEqual({ ...(made ?? grant), status: "revoked" });
      expect(await a.grants.get(keyOf(grant))).toEqual(revoked);
    }
  });

  test("of a refresh and a revocation the grant is revoked in the end, with the tokens of the last", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const grant = await newGrant(a, { sealed: bigBox(320_000) });
      const [refreshed, revoked] = await Promise.all([
        a.grants.refreshed(keyOf(grant), 1, newTokens({ sealed: bigBox(330_000) }), []),
        b.grants.revoke(keyOf(grant), 9_000, []),
      ]);
      expect(revoked).toEqual({ ...(refreshed ?? grant), status: "revoked" });
      expect(await a.grants.get(keyOf(grant))).toEqual(revoked);
    }
  });

  test("what the authorization server was told of is emptied at its version, and moves on", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a, { sealed: bigBox(500_000) });
    const idsLeft = async () => {
      const { rows } = await b.grants.unrevoked(EVERYTHING);
      return rows.filter((each) => each.project === grant.project);
    };
    await a.grants.emptied(keyOf(grant), 1, "not revoked");
    expect(await a.grants.get(keyOf(grant))).toEqual(grant);
    const revoked = await a.grants.revoke(keyOf(grant), 9_000, []);
    expect(await idsLeft()).toEqual([revoked]);
    await a.grants.emptied(keyOf(grant), 2, "another version");
    await a.grants.emptied({ ...keyOf(grant), user: "app:bob" }, 1, "another user");
    expect(await idsLeft()).toEqual([revoked]);
    await a.grants.emptied(keyOf(grant), 1, "told");
    const emptied = {
      ...grant,
      status: "revoked",
      reason: "told",
      version: 2,
      sealed: new Uint8Array(),
      hasRefreshToken: false,
    };
    expect(await b.grants.get(keyOf(grant))).toEqual(emptied);
    expect(await idsLeft()).toEqual([]);
    await a.grants.emptied(keyOf(grant), 1, "again");
    expect(await b.grants.get(keyOf(grant))).toEqual(emptied);
  });

  test("a consent that came in between keeps its tokens: they are not those that were told of", async () => {
    const { a, b } = replicas();
    const grant = await newGrant(a);
    await a.grants.revoke(keyOf(grant), 9_000, []);
    const next = await giveGrant(b, { ...grant, version: 1_001, sealed: bigBox(400_000) });
    await a.grants.emptied(keyOf(grant), 1, "told");
    expect(await b.grants.get(keyOf(grant))).toEqual(next);
    expect((await b.grants.unrevoked(EVERYTHING)).rows.map((each) => each.id)).not.toContain(grant.id);
  });

  test("revoked ones that are still to be told of come in order of id, of all projects, page by page", async () => {
    const { a, b } = replicas();
    const made = await Promise.all(Array.from({ length: 7 }, () => newGrant(a)));
    for (const grant of made.slice(0, 5)) await a.grants.revoke(keyOf(grant), 9_000, []);
    const seen: string[] = [];
    for (let after: string | null = null; ;) {
      const page: Awaited<ReturnType<Store["grants"]["unrevoked"]>> = await b.grants.unrevoked({
        after,
        limit: 2,
      });
      expect(page.rows.length).toBeLessThanOrEqual(2);
      seen.push(...page.rows.map((grant) => grant.id));
      after = page.rows.at(-1)?.id ?? null;
      if (!page.more) break;
    }
    expect(seen).toEqual(seen.toSorted());
    const ids = made.map((grant) => grant.id as string);
    expect(seen.filter((each) => ids.includes(each))).toEqual(ids.slice(0, 5).toSorted());
  });

  test("a change whose audit cannot be written does not happen", async () => {
    const { a } = replicas();
    const grant = await newGrant(a, { sealed: bigBox(310_000) });
    const known = entry(grant.project, "grant_made");
    await a.audit.append([known]);
    const changes = [
      () => a.grants.refreshed(keyOf(grant), 1, newTokens(), [known]),
      () => a.grants.fail(keyOf(grant), 1, "invalid_grant", [known]),
      () => a.grants.revoke(keyOf(grant), 9_000, [known]),
    ];
    for (const change of changes) {
      await expect(change()).rejects.toThrow();
      expect(await a.grants.get(keyOf(grant))).toEqual(grant);
    }
  });
});
