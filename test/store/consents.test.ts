import { expect, test } from "vitest";
import type { Consent } from "../../src/core/consents.ts";
import type { Store } from "../../src/core/storage.ts";
import { onEveryEngine } from "./engines.ts";
import {
  aConsent,
  aGrant,
  authorizing,
  bigBox,
  entry,
  eventsOf,
  id,
  isThere,
  newProject,
  race,
} from "./things.ts";

/** An open consent of a new project. */
async function newConsent(store: Store, more: Partial<Consent> = {}): Promise<Consent> {
  const consent = aConsent(await newProject(store), more);
  await store.consents.open(consent, []);
  return consent;
}

/** One whose authorization is under way, as it is stored. */
async function newAuthorizing(store: Store, more: Partial<Parameters<typeof authorizing>[1]> = {}) {
  const consent = await newConsent(store, { browserHash: "browser" });
  const started = await store.consents.authorize(authorizing(consent, more), []);
  if (!started) throw new Error("not authorizing");
  return started;
}

/** Another consent for the same connection and user. */
const another = (consent: Consent, more: Partial<Consent> = {}) =>
  aConsent(consent.project, { connectionId: consent.connectionId, user: consent.user, ...more });

const opened = (consent: Consent) => [entry(consent.project, "consent_opened")];

/** Opening it has ended no other. */
const NONE = { expired: 0, failed: 0 };

onEveryEngine("consents: opening", (replicas) => {
  test("a consent comes back as it was opened, by its id", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const full = aConsent(project, {
      user: "app:nul\u0000",
      confirmUrl: "https://app.example/confirm",
      browserHash: "b",
      provenBy: "runtime",
      shownAt: 1_500,
    });
    const bare = aConsent(project, { agent: null, doneUrl: null, scopes: null, newScopes: [] });
    for (const consent of [full, bare]) {
      expect(await a.consents.open(consent, opened(consent))).toEqual({ consent, isNew: true, ended: NONE });
      expect(await b.consents.find(consent.id)).toEqual(consent);
    }
    expect(await b.consents.find(id("oauthreq"))).toBeNull();
    expect(await eventsOf(b, project)).toEqual(["consent_opened", "consent_opened"]);
  });

  test("of twenty that open one is made, with its audit, and all receive it", async () => {
    const { a, b } = replicas();
    const first = aConsent(await newProject(a));
    const results = await race({ a, b }, (store, n) => {
      const mine = another(first, { requestId: `req ${n}` });
      return store.consents.open(mine, [entry(first.project, "consent_opened", { principal: mine.id })]);
    });
    const [winner, ...others] = results.filter(({ isNew }) => isNew);
    expect(others).toEqual([]);
    expect(new Set(results.map(({ consent }) => consent.id))).toEqual(new Set([winner?.consent.id]));
    const { rows } = await b.audit.list(first.project, {}, { after: null, limit: 9 });
    expect(rows.map((row) => row.principal)).toEqual([winner?.consent.id]);
    expect(await a.consents.since(first, 0)).toEqual([winner?.consent]);
  });

  test("the second receives the first one's, also while it is authorizing; it leaves no trace", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a, { browserHash: "browser" });
    const next = another(consent, { createdAt: 99_999, why: "other" });
    expect(await b.consents.open(next, opened(next))).toEqual({ consent, isNew: false, ended: NONE });
    const started = await a.consents.authorize(authorizing(consent), []);
    expect(await b.consents.open(next, opened(next))).toEqual({
      consent: started,
      isNew: false,
      ended: NONE,
    });
    expect(await b.consents.find(next.id)).toBeNull();
    expect(await eventsOf(a, consent.project)).toEqual([]);
  });

  test("another user, connection or project has one of its own", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a);
    const other = await newProject(a);
    const differences: Partial<Consent>[] = [
      { user: "app:bob" },
      { connectionId: id("conn") },
      { project: other },
    ];
    for (const difference of differences) {
      expect(await b.consents.open(another(consent, difference), [])).toMatchObject({ isNew: true });
    }
    expect(await b.consents.find(consent.id)).toEqual(consent);
  });

  test("one that has expired makes way at the exact millisecond", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a, { browserHash: "browser", expiresAt: 100_000 });
    await a.consents.authorize(authorizing(consent), []);
    const early = another(consent, { createdAt: 99_999, expiresAt: 200_000 });
    expect((await b.consents.open(early, [])).isNew).toBe(false);
    const next = another(consent, { createdAt: 100_000, expiresAt: 200_000 });
    expect(await b.consents.open(next, opened(next))).toEqual({
      consent: next,
      isNew: true,
      ended: { expired: 1, failed: 0 },
    });
    expect(await a.consents.find(consent.id)).toMatchObject({
      status: "expired",
      outcome: "expired",
      endedAt: 100_000,
      stateHash: null,
      sealedFlow: null,
    });
    expect(await eventsOf(a, consent.project)).toEqual(["consent_opened"]);
  });

  test("one of another generation makes way, to one of twenty", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a);
    const results = await race({ a, b }, (store) => {
      const next = another(consent, { generation: 2, createdAt: 3_000 });
      return store.consents.open(next, opened(next));
    });
    expect(results.filter(({ isNew }) => isNew)).toHaveLength(1);
    expect(results.filter(({ ended }) => ended.failed === 1)).toHaveLength(1);
    expect(new Set(results.map((result) => result.consent.id)).size).toBe(1);
    expect(results[0]?.consent.generation).toBe(2);
    expect(await b.consents.find(consent.id)).toMatchObject({
      status: "failed",
      outcome: "connection_changed",
      endedAt: 3_000,
    });
    expect(await eventsOf(a, consent.project)).toEqual(["consent_opened"]);
  });

  test("one that opens while another ends receives an open one", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const consent = await newConsent(a);
      const next = another(consent);
      const [ended, result] = await Promise.all([
        a.consents.end(
          { id: consent.id, status: "declined", outcome: "x", attempt: null, browserHash: null, at: 2_000 },
          [],
        ),
        b.consents.open(next, opened(next)),
      ]);
      expect(ended).not.toBeNull();
      expect(result.consent.id).toBe(result.isNew ? next.id : consent.id);
      expect(await eventsOf(a, consent.project)).toHaveLength(result.isNew ? 1 : 0);
    }
  });

  test("a user's consents for a connection come newest first, at most twenty, from the time on", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a, { createdAt: 1_000 });
    const end = { status: "declined", outcome: "x", attempt: null, browserHash: null, at: 9 } as const;
    await a.consents.end({ id: consent.id, ...end }, []);
    const ids: string[] = [consent.id];
    for (let n = 1; n < 24; n++) {
      const next = another(consent, { createdAt: 1_000 + n });
      await a.consents.open(next, []);
      await a.consents.end({ id: next.id, ...end }, []);
      ids.push(next.id);
    }
    await a.consents.open(another(consent, { user: "app:bob" }), []);
    await a.consents.open(another(consent, { connectionId: id("conn") }), []);
    const idsSince = async (time: number) => (await b.consents.since(consent, time)).map((each) => each.id);
    expect(await idsSince(1_020)).toEqual(ids.slice(20).toReversed());
    expect(await idsSince(1_023)).toEqual([ids[23]]);
    expect(await idsSince(1_024)).toEqual([]);
    expect(await idsSince(0)).toEqual(ids.slice(4).toReversed());
    expect(await b.consents.since({ ...consent, project: await newProject(a) }, 0)).toEqual([]);
  });
});

onEveryEngine("consents: before the person allows", (replicas) => {
  test("an open one is widened, an ended or authorizing one is not", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a, { browserHash: "browser" });
    const wider = { scopes: ["repo", "admin"], newScopes: ["admin"], why: "insufficient_scope" };
    expect(await b.consents.widen(consent.id, wider)).toEqual({ ...consent, ...wider });
    expect(await a.consents.find(consent.id)).toEqual({ ...consent, ...wider });
    await a.consents.authorize(authorizing(consent), []);
    expect(await b.consents.widen(consent.id, { ...wider, why: "later" })).toBeNull();
    expect((await a.consents.find(consent.id))?.why).toBe("insufficient_scope");
    expect(await b.consents.widen(id("oauthreq"), wider)).toBeNull();
  });

  test("the first sight is one of twenty, with its audit", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a);
    const shown = await race({ a, b }, (store, n) =>
      store.consents.shown(consent.id, 2_000 + n, [entry(consent.project, "consent_shown")]),
    );
    expect(shown.filter(Boolean)).toHaveLength(1);
    expect((await b.consents.find(consent.id))?.shownAt).toBe(2_000 + shown.indexOf(true));
    expect(await eventsOf(a, consent.project)).toEqual(["consent_shown"]);
    expect(await a.consents.shown(id("oauthreq"), 1, [entry(consent.project, "consent_shown")])).toBe(false);
    expect(await eventsOf(a, consent.project)).toHaveLength(1);
  });

  const proofOf = (consent: Consent, browserHash: string, now = 2_000) => ({
    id: consent.id,
    browserHash,
    by: "possession" as const,
    rebind: "never" as const,
    now,
  });

  test("of twenty browsers one is the person's; it may come again, the others may not", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a);
    const audit = () => [entry(consent.project, "consent_shown")];
    const proven = await race({ a, b }, (store, n) =>
      store.consents.prove(proofOf(consent, `browser ${n}`), audit()),
    );
    const winner = `browser ${proven.findIndex(isThere)}`;
    const now = { ...consent, browserHash: winner, provenBy: "possession" };
    expect(proven.filter(isThere)).toEqual([now]);
    expect(await b.consents.find(consent.id)).toEqual(now);
    expect(await b.consents.prove(proofOf(consent, winner), [])).toEqual(now);
    expect(await b.consents.prove(proofOf(consent, "browser x"), audit())).toBeNull();
    expect(await eventsOf(a, consent.project)).toEqual(["consent_shown"]);
  });

  test("while it is open, a stronger proof may bind another browser", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a, { browserHash: "browser", provenBy: "runtime" });
    const rebound = { ...proofOf(consent, "other"), by: "sign-in", rebind: "while open" } as const;
    const now = { ...consent, browserHash: "other", provenBy: "sign-in" } as const;
    expect(await b.consents.prove(rebound, [])).toEqual(now);
    await a.consents.end({ ...over(consent), browserHash: null }, []);
    expect(
      await b.consents.prove({ ...rebound, browserHash: "third" }, [entry(consent.project, "consent_shown")]),
    ).toBeNull();
    expect((await a.consents.find(consent.id))?.browserHash).toBe("other");
    expect(await eventsOf(a, consent.project)).toEqual([]);
  });

  const over = (consent: Consent) =>
    ({ id: consent.id, status: "declined", outcome: "x", attempt: null, at: 1_500 }) as const;

  test("while it is authorizing, a stronger proof takes it along, and what was under way is void", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a, { browserHash: "browser", provenBy: "sign-in" });
    const weak = { ...proofOf(consent, "other"), by: "possession" } as const;
    for (const isClaimed of [false, true]) {
      const browserHash = isClaimed ? "other" : "browser";
      const start = authorizing(consent, { browserHash });
      const { redirectId, stateHash, attempt } = start;
      expect(await a.consents.authorize(start, [])).not.toBeNull();
      const callback = { redirectId, stateHash, browserHash, now: 2_000 };
      const claimed = isClaimed && (await a.consents.claim(callback));
      expect(claimed !== null).toBe(true);
      for (const each of [browserHash, "weak"])
        expect(await b.consents.prove({ ...weak, browserHash: each }, [])).toBeNull();
      const next = isClaimed ? "third" : "other";
      const proof = { ...proofOf(consent, next), by: "sign-in", rebind: "while open" } as const;
      const now = { ...consent, browserHash: next, provenBy: "sign-in" };
      expect(await b.consents.prove(proof, [])).toEqual(now);
      expect(await a.consents.find(consent.id)).toEqual(now);
      expect(await a.consents.claim(callback)).toBeNull();
      expect(await a.consents.findByState(stateHash)).toBeNull();
      const grant = aGrant(consent.project, { connectionId: consent.connectionId, user: consent.user });
      expect(await a.grants.put(grant, { id: consent.id, attempt, at: 2_000 }, [])).toBeNull();
      expect(await b.consents.end({ ...over(consent), attempt, browserHash: null }, [])).toBeNull();
    }
    expect((await b.consents.open(another(consent), [])).isNew).toBe(false);
  });

  test("it is sent to whoever asked last, while it is open and not when it is authorizing", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a, { browserHash: "browser", confirmUrl: "https://a.example/" });
    const urls = { confirmUrl: "https://b.example/confirm", doneUrl: null };
    expect(await b.consents.readdress(consent.id, urls)).toEqual({ ...consent, ...urls });
    expect(await a.consents.find(consent.id)).toEqual({ ...consent, ...urls });
    const started = await a.consents.authorize(authorizing(consent), []);
    expect(await b.consents.readdress(consent.id, { ...urls, doneUrl: "https://c.example/" })).toBeNull();
    expect(await a.consents.find(consent.id)).toEqual(started);
    expect(await b.consents.readdress(id("oauthreq"), urls)).toBeNull();
  });

  test("nobody is proven for one that has expired, at the exact millisecond", async () => {
    const { a } = replicas();
    const consent = await newConsent(a, { expiresAt: 5_000 });
    expect(await a.consents.prove(proofOf(consent, "browser", 5_000), [])).toBeNull();
    const rebind = { ...proofOf(consent, "browser", 5_000), rebind: "while open" } as const;
    expect(await a.consents.prove(rebind, [])).toBeNull();
    expect(await a.consents.prove(proofOf(consent, "browser", 4_999), [])).not.toBeNull();
  });
});

onEveryEngine("consents: allow and callback", (replicas) => {
  const callbackOf = (consent: Consent, more: object = {}) => ({
    redirectId: consent.redirectId ?? "",
    stateHash: consent.stateHash ?? "",
    browserHash: consent.browserHash ?? "",
    now: 3_000,
    ...more,
  });

  test("its own browser starts the authorization; what was under way before is void", async () => {
    const { a, b } = replicas();
    const consent = await newConsent(a, { browserHash: "browser" });
    const audit = () => [entry(consent.project, "consent_allowed")];
    const { now: _, ...first } = authorizing(consent, { sealedFlow: bigBox(100_000) });
    const started = await a.consents.authorize({ ...first, now: 2_000 }, audit());
    expect(started).toEqual({ ...consent, ...first, status: "authorizing" });
    expect(await b.consents.find(consent.id)).toEqual(started);
    expect(await b.consents.findByState(first.stateHash)).toEqual(started);
    const second = await b.consents.authorize(authorizing(consent), audit());
    expect(second?.attempt).not.toBe(first.attempt);
    expect(await a.consents.findByState(first.stateHash)).toBeNull();
    expect(await a.consents.claim(callbackOf(consent, first))).toBeNull();
    expect(await eventsOf(a, consent.project)).toEqual(["consent_allowed", "consent_allowed"]);
  });

  test("not by another browser, not without a proven one, not after its time or its end", async () => {
    const { a, b } = replicas();
    const audit = (consent: Consent) => [entry(consent.project, "consent_allowed")];
    const refused = async (consent: Consent, more: object = {}) => {
      const then = await a.consents.find(consent.id);
      expect(await b.consents.authorize(authorizing(consent, more), audit(consent))).toBeNull();
      expect(await a.consents.find(consent.id)).toEqual(then);
      expect(await eventsOf(a, consent.project)).toEqual([]);
    };
    const proven = () => newConsent(a, { browserHash: "browser", expiresAt: 5_000 });
    await refused(await proven(), { browserHash: "other" });
    await refused(await newConsent(a));
    await refused(await proven(), { now: 5_000 });
    const over = await proven();
    const end = { id: over.id, status: "declined", outcome: "x", attempt: null, browserHash: null } as const;
    await a.consents.end({ ...end, at: 1 }, []);
    await refused(over);
    const intime = await proven();
    expect(await b.consents.authorize(authorizing(intime, { now: 4_999 }), [])).not.toBeNull();
  });

  test("of twenty callbacks one has the consent, with its flow; the state is spent", async () => {
    const { a, b } = replicas();
    const consent = await newAuthorizing(a);
    const claimed = await race({ a, b }, (store) => store.consents.claim(callbackOf(consent)));
    expect(claimed.filter(isThere)).toEqual([{ ...consent, stateHash: null }]);
    expect(await b.consents.find(consent.id)).toEqual({ ...consent, stateHash: null });
    expect(await b.consents.findByState(consent.stateHash ?? "")).toBeNull();
  });

  test("a wrong browser, redirect or state burns nothing, and neither does one that is late", async () => {
    const { a, b } = replicas();
    const consent = await newAuthorizing(a, { stateExpiresAt: 50_000 });
    const wrong = [
      { browserHash: "other" },
      { redirectId: "e".repeat(32) },
      { stateHash: "f".repeat(64) },
      { now: 50_000 },
    ];
    for (const each of wrong) {
      expect(await b.consents.claim(callbackOf(consent, each))).toBeNull();
      expect(await a.consents.find(consent.id)).toEqual(consent);
    }
    expect(await b.consents.claim(callbackOf(consent, { now: 49_999 }))).not.toBeNull();
  });

  test("an end counts once, frees the slot and voids the state", async () => {
    const { a, b } = replicas();
    for (const consent of [await newConsent(a, { browserHash: "browser" }), await newAuthorizing(a)]) {
      const ended = await race({ a, b }, (store, n) =>
        store.consents.end(
          {
            id: consent.id,
            status: n % 3 ? "declined" : "failed",
            outcome: `by ${n}`,
            attempt: consent.attempt,
            browserHash: "browser",
            at: 4_000 + n,
          },
          [entry(consent.project, "consent_declined", { principal: `by ${n}` })],
        ),
      );
      const n = ended.findIndex(isThere);
      const now = {
        ...consent,
        status: n % 3 ? "declined" : "failed",
        outcome: `by ${n}`,
        endedAt: 4_000 + n,
        stateHash: null,
        sealedFlow: null,
      };
      expect(ended.filter(isThere)).toEqual([now]);
      expect(await b.consents.find(consent.id)).toEqual(now);
      const { rows } = await a.audit.list(consent.project, {}, { after: null, limit: 9 });
      expect(rows.map((row) => row.principal)).toEqual([`by ${n}`]);
      expect(await b.consents.claim(callbackOf(consent))).toBeNull();
      expect((await b.consents.open(another(consent), [])).isNew).toBe(true);
    }
  });

  test("an end of another attempt or browser ends nothing", async () => {
    const { a, b } = replicas();
    const consent = await newAuthorizing(a);
    const end = { id: consent.id, status: "failed", outcome: "x", at: 4_000 } as const;
    const strangers = [
      { attempt: "w_other", browserHash: null },
      { attempt: null, browserHash: "other" },
      { attempt: consent.attempt, browserHash: "other" },
    ];
    for (const stranger of strangers) {
      const audit = [entry(consent.project, "consent_failed")];
      expect(await b.consents.end({ ...end, ...stranger }, audit)).toBeNull();
    }
    expect(await a.consents.find(consent.id)).toEqual(consent);
    expect(await eventsOf(a, consent.project)).toEqual([]);
    const unproven = await newConsent(a);
    expect(
      await b.consents.end({ ...end, id: unproven.id, attempt: null, browserHash: "browser" }, []),
    ).toBeNull();
  });

  test("of a callback and a new Allow both may count, and the attempt is the new one's", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const consent = await newAuthorizing(a);
      const [claimed, again] = await Promise.all([
        a.consents.claim(callbackOf(consent)),
        b.consents.authorize(authorizing(consent), []),
      ]);
      const now = await a.consents.find(consent.id);
      expect(now).toEqual(again);
      expect(now?.attempt).not.toBe(consent.attempt);
      expect(claimed?.attempt ?? consent.attempt).toBe(consent.attempt);
    }
  });
});
