import { expect, test } from "vitest";
import { CONSENT_LEAP, type Grant } from "../../src/core/grants.ts";
import type { Id } from "../../src/core/ids.ts";
import type { Store } from "../../src/core/storage.ts";
import { giveGrant } from "../helpers/grants.ts";
import { onEveryEngine } from "./engines.ts";
import {
  EVERYTHING,
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

const made = (grant: Grant) => [entry(grant.project, "grant_made")];

/** A consent under way for the grant's key; gives what `put` takes. */
async function underWay(store: Store, grant: Grant) {
  const { project, connectionId, user } = grant;
  const attempt: Id<"w"> = id("w");
  const consent = aConsent(project, { connectionId, user, browserHash: "browser" });
  await store.consents.open(consent, []);
  await store.consents.authorize(authorizing(consent, { attempt }), []);
  return { id: consent.id, attempt, at: 3_000 };
}

onEveryEngine("grants: a consent is finished", (replicas) => {
  test("the consent is connected and the grant stored in one step, with the audit", async () => {
    const { a, b } = replicas();
    const grant = aGrant(await newProject(a), { version: 7, sealed: bigBox(1_300_000) });
    const consent = await underWay(a, grant);
    expect(await a.grants.put(grant, consent, made(grant))).toEqual(grant);
    expect(await b.grants.get(grant)).toEqual(grant);
    expect(await b.consents.find(consent.id)).toMatchObject({
      status: "connected",
      outcome: null,
      endedAt: 3_000,
      stateHash: null,
      sealedFlow: null,
    });
    expect(await eventsOf(b, grant.project)).toEqual(["grant_made"]);
    const { project, connectionId, user } = grant;
    expect(await b.consents.open(aConsent(project, { connectionId, user }), [])).toMatchObject({
      isNew: true,
    });
  });

  test("of twenty that finish the same consent one does, with its box and its audit", async () => {
    const { a, b } = replicas();
    const grant = aGrant(await newProject(a));
    const consent = await underWay(a, grant);
    const put = await race({ a, b }, (store, n) =>
      store.grants.put({ ...grant, id: id("grant"), sealed: bigBox(301_000 + n) }, consent, made(grant)),
    );
    const won = put.filter(isThere);
    expect(won).toHaveLength(1);
    expect(await b.grants.get(grant)).toEqual(won[0]);
    expect((await a.grants.list(grant.project, {}, EVERYTHING)).rows).toEqual(won);
    expect(await eventsOf(a, grant.project)).toEqual(["grant_made"]);
  });

  test("it takes the place of the grant before, whatever that was, and ends its lease", async () => {
    const { a, b } = replicas();
    const before = [
      async () => {},
      async (grant: Grant) => {
        await a.grants.lease({ key: grant, version: 1, lease: "w_1", leaseUntil: 9, now: 1 });
      },
      async (grant: Grant) => {
        await a.grants.refreshed(grant, 1, newTokens({ sealed: bigBox(600_000) }), []);
      },
      async (grant: Grant) => {
        await a.grants.fail(grant, 1, "invalid_grant", []);
      },
      async (grant: Grant) => {
        await a.grants.revoke(grant, 9_000, []);
      },
      async (grant: Grant) => {
        await a.grants.revoke(grant, 9_000, []);
        await a.grants.emptied(grant, 1, "told");
      },
    ];
    for (const happened of before) {
      const grant = aGrant(await newProject(a), { sealed: bigBox(1_300_000) });
      await giveGrant(a, grant);
      await happened(grant);
      const next = aGrant(grant.project, {
        connectionId: grant.connectionId,
        user: grant.user,
        version: 1 + CONSENT_LEAP,
        issuer: "https://other.example",
        clientGeneration: "g2",
        sealed: bigBox(310_000),
      });
      const consent = await underWay(b, next);
      const leased = { ...next, lease: "w_stale", leaseUntil: 9_999 };
      expect(await b.grants.put(leased, consent, made(next))).toEqual(next);
      expect(await a.grants.get(grant)).toEqual(next);
      expect(await a.grants.find(grant.project, next.id)).toEqual(next);
      expect((await a.grants.list(grant.project, {}, EVERYTHING)).rows).toEqual([next]);
      expect(await eventsOf(a, grant.project)).toEqual(["grant_made"]);
    }
  });

  test("a refresh under way loses: its version is not there any more", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const grant = await giveGrant(a, aGrant(await newProject(a), { sealed: bigBox(310_000) }));
      await a.grants.lease({ key: grant, version: 1, lease: "w_1", leaseUntil: 9_000, now: 1 });
      const next = { ...grant, version: 1 + CONSENT_LEAP, sealed: bigBox(320_000), clientGeneration: "g2" };
      const consent = await underWay(a, next);
      const refresh = () =>
        a.grants.refreshed(grant, 1, newTokens({ sealed: bigBox(330_000) }), [
          entry(grant.project, "grant_refreshed"),
        ]);
      const put = () => b.grants.put(next, consent, made(next));
      const [refreshed, stored] = await Promise.all([refresh(), put()]);
      expect(stored).toEqual(next);
      expect(await b.grants.get(grant)).toEqual(next);
      expect(await refresh()).toBeNull();
      expect(await eventsOf(a, grant.project)).toHaveLength(refreshed ? 2 : 1);
      expect(await b.grants.get(grant)).toEqual(next);
    }
  });

  test("after a decline, a failure, another attempt or a block nothing is stored, not even in the audit", async () => {
    const { a, b } = replicas();
    type UnderWay = Awaited<ReturnType<typeof underWay>>;
    const end = (status: "declined" | "failed") => async (_: Grant, consent: UnderWay) => {
      const over = { id: consent.id, status, outcome: "x", attempt: null, browserHash: null, at: 2_500 };
      expect(await b.consents.end(over, [])).not.toBeNull();
    };
    const endings = [
      end("declined"),
      end("failed"),
      async (_: Grant, consent: UnderWay) => {
        const start = authorizing({ ...aConsent("p"), id: consent.id, browserHash: "browser" });
        expect(await b.consents.authorize(start, [])).not.toBeNull();
      },
      async (grant: Grant) => b.users.block({ project: grant.project, id: grant.user, at: 2_500 }, []),
    ];
    for (const ending of endings) {
      const grant = aGrant(await newProject(a), { sealed: bigBox(310_000) });
      const consent = await underWay(a, grant);
      await ending(grant, consent);
      const then = await b.consents.find(consent.id);
      expect(await a.grants.put(grant, consent, made(grant))).toBeNull();
      expect(await b.grants.get(grant)).toBeNull();
      expect(await b.consents.find(consent.id)).toEqual(then);
      expect(await eventsOf(a, grant.project)).toEqual([]);
    }
  });

  test("a consent finishes nothing but its own grant", async () => {
    const { a, b } = replicas();
    const grant = aGrant(await newProject(a));
    const other = await newProject(a);
    const consent = await underWay(a, grant);
    for (const change of [{ user: "app:bob" as const }, { connectionId: id("conn") }, { project: other }]) {
      const foreign = { ...grant, ...change };
      expect(await a.grants.put(foreign, consent, made(foreign))).toBeNull();
      expect(await b.grants.get(foreign)).toBeNull();
    }
    expect(await a.grants.put(grant, { ...consent, attempt: "w_other" }, made(grant))).toBeNull();
    expect(await a.grants.put(grant, { ...consent, id: id("oauthreq") }, made(grant))).toBeNull();
    expect(await eventsOf(a, grant.project)).toEqual([]);
    expect(await a.grants.put(grant, consent, made(grant))).toEqual(grant);
  });

  test("of a finish and a decline one counts", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const grant = aGrant(await newProject(a));
      const consent = await underWay(a, grant);
      const put = () => a.grants.put(grant, consent, made(grant));
      const decline = () =>
        b.consents.end(
          { id: consent.id, status: "declined", outcome: "x", attempt: null, browserHash: null, at: 2_500 },
          [entry(grant.project, "consent_declined")],
        );
      const results = await Promise.all(round % 2 ? [put(), decline()] : [decline(), put()]);
      expect(results.filter((result) => result !== null)).toHaveLength(1);
      const status = (await b.consents.find(consent.id))?.status;
      expect(await b.grants.get(grant)).toEqual(status === "connected" ? grant : null);
      expect(await eventsOf(a, grant.project)).toEqual([
        status === "connected" ? "grant_made" : "consent_declined",
      ]);
    }
  });

  test("a finish whose audit cannot be written does not happen", async () => {
    const { a } = replicas();
    const grant = aGrant(await newProject(a), { sealed: bigBox(310_000) });
    const consent = await underWay(a, grant);
    const known = entry(grant.project, "grant_made");
    await a.audit.append([known]);
    await expect(a.grants.put(grant, consent, [known])).rejects.toThrow();
    expect(await a.grants.get(grant)).toBeNull();
    expect(await a.consents.find(consent.id)).toMatchObject({ status: "authorizing" });
  });
});
