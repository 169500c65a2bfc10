// What ends consents besides the person: a block, and changes of the connection.
import { expect, test } from "vitest";
import type { Consent } from "../../src/core/consents.ts";
import type { Store } from "../../src/core/storage.ts";
import { onEveryEngine } from "./engines.ts";
import {
  aConnection,
  aConsent,
  aHandle,
  aRegistration,
  authorizing,
  entry,
  eventsOf,
  id,
  newProject,
} from "./things.ts";

/** Three consents for a connection: open, authorizing, declined. */
async function three(store: Store, project: string, more: Partial<Consent>) {
  const made = (["app:ann", "app:bob", "app:cid"] as const).map((user) =>
    aConsent(project, { browserHash: "browser", user, ...more }),
  );
  for (const consent of made) await store.consents.open(consent, []);
  const [open, started, declined] = made;
  if (!open || !started || !declined) throw new Error("not three");
  await store.consents.authorize(authorizing(started), []);
  await store.consents.end(
    { id: declined.id, status: "declined", outcome: "x", attempt: null, browserHash: null, at: 1_500 },
    [],
  );
  return { open, started, declined };
}

const endOf = async (store: Store, { id }: Consent) => {
  const found = await store.consents.find(id);
  return [found?.status, found?.outcome, found?.endedAt, found?.sealedFlow];
};
const FAILED = (outcome: string, at: number) => ["failed", outcome, at, null];
const DECLINED = ["declined", "x", 1_500, null];

onEveryEngine("consents: what else ends them", (replicas) => {
  test("a deleted connection takes registrations along and fails its open consents; others stay", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const [record, other] = [aConnection(project), aConnection(project, { name: "other" })];
    const connectionId = record.connection.id;
    for (const each of [record, other]) await a.connections.insert(each, []);
    const mine = aRegistration(project, { connectionId });
    const theirs = aRegistration(project, { connectionId: other.connection.id });
    for (const each of [mine, theirs]) await a.registrations.put(each, null, []);
    const { open, started, declined } = await three(a, project, { connectionId });
    const stranger = aConsent(project, { connectionId: other.connection.id });
    await a.consents.open(stranger, []);
    const audit = () => [entry(project, "connection_deleted")];
    const gone = await Promise.all(
      [a, b, a, b].map((store) => store.connections.delete(project, "github", 7_000, audit())),
    );
    expect(gone.filter(Boolean)).toHaveLength(1);
    for (const each of [open, started])
      expect(await endOf(b, each)).toEqual(FAILED("connection_deleted", 7_000));
    expect(await endOf(b, declined)).toEqual(DECLINED);
    expect(await b.consents.find(stranger.id)).toEqual(stranger);
    expect(await b.registrations.latest(project, connectionId)).toBeNull();
    expect(await b.registrations.latest(project, other.connection.id)).toEqual(theirs);
    expect(await eventsOf(a, project)).toEqual(["connection_deleted"]);
  });

  test("a connection that means something else fails the consents of before and drops its registrations", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const record = aConnection(project);
    const connectionId = record.connection.id;
    await a.connections.insert(record, []);
    await a.registrations.put(aRegistration(project, { connectionId }), null, []);
    const { open, started, declined } = await three(a, project, { connectionId });
    const ahead = aConsent(project, { connectionId, user: "app:early", generation: 2 });
    await a.consents.open(ahead, []);
    const next = { version: 2, generation: 2, target: "https://else.example/", updatedAt: 8_000 };
    const changed = { ...record, connection: { ...record.connection, ...next } };
    expect(await b.connections.replace(changed, 1, [])).toBe(true);
    for (const each of [open, started])
      expect(await endOf(b, each)).toEqual(FAILED("connection_changed", 8_000));
    // Whoever comes back is told, and finishes nothing.
    const { redirectId, browserHash } = authorizing(started);
    const { stateHash } = (await b.consents.find(started.id)) ?? {};
    expect(await b.consents.findByState(stateHash ?? "")).toMatchObject({ id: started.id, status: "failed" });
    const callback = { redirectId, stateHash: stateHash ?? "", browserHash, now: 8_001 };
    expect(await b.consents.claim(callback)).toBeNull();
    expect(await endOf(b, declined)).toEqual(DECLINED);
    expect(await b.consents.find(ahead.id)).toEqual(ahead);
    expect(await b.registrations.latest(project, connectionId)).toBeNull();
    expect(await b.connections.get(project, "github")).toEqual(changed);
  });

  test("a change that means nothing else leaves both, and so does one that comes late", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const record = aConnection(project);
    const connectionId = record.connection.id;
    await a.connections.insert(record, []);
    const registration = aRegistration(project, { connectionId });
    await a.registrations.put(registration, null, []);
    const { open } = await three(a, project, { connectionId });
    const change = (more: object) => ({ ...record, connection: { ...record.connection, ...more } });
    expect(await b.connections.replace(change({ version: 2, timeoutMs: 1_000 }), 1, [])).toBe(true);
    const late = change({ version: 2, generation: 2 });
    expect(await b.connections.replace(late, 1, [entry(project, "connection_changed")])).toBe(false);
    expect(await b.consents.find(open.id)).toEqual(open);
    expect(await b.registrations.latest(project, connectionId)).toEqual(registration);
    expect(await eventsOf(a, project)).toEqual([]);
  });

  test("a blocked user loses open consents, links and sessions; nobody else does", async () => {
    const { a, b } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const mine = [aConsent(project), aConsent(project, { browserHash: "browser" })];
    const theirs = [aConsent(project, { user: "app:bob" }), aConsent(other)];
    for (const each of [...mine, ...theirs]) await a.consents.open(each, []);
    const last = mine[1];
    if (last) await a.consents.authorize(authorizing(last), []);
    const sessions = [aHandle(project), aHandle(project, { kind: "me_link", browserHash: null })];
    const left = [
      aHandle(project, { subject: "app:bob" }),
      aHandle(other),
      aHandle(project, { kind: "sign_in", subject: "app:ann" }),
    ];
    for (const handle of [...sessions, ...left]) await a.handles.put(handle, []);
    await b.users.block({ project, id: "app:ann", at: 6_000 }, [entry(project, "user_blocked")]);
    for (const each of mine) expect(await endOf(a, each)).toEqual(FAILED("user_blocked", 6_000));
    for (const each of theirs) expect(await a.consents.find(each.id)).toEqual(each);
    for (const { kind, hash } of sessions) expect(await a.handles.get(kind, hash, 2_000)).toBeNull();
    for (const handle of left) expect(await a.handles.get(handle.kind, handle.hash, 2_000)).toEqual(handle);
    expect(await eventsOf(a, project)).toEqual(["user_blocked"]);
  });

  test("of a deletion of the connection and another end one counts", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const project = await newProject(a);
      const record = aConnection(project);
      const connectionId = record.connection.id;
      await a.connections.insert(record, []);
      const { started } = await three(a, project, { connectionId });
      const attempt = (await a.consents.find(started.id))?.attempt ?? "";
      const end = {
        id: started.id,
        status: "failed",
        outcome: "x",
        attempt,
        browserHash: null,
        at: 2_000,
      } as const;
      const [ended, deleted] = await Promise.all([
        a.consents.end(end, [entry(project, "consent_failed")]),
        b.connections.delete(project, "github", 7_000, []),
      ]);
      expect(deleted).toBe(true);
      expect(await endOf(a, started)).toEqual(
        ended ? FAILED("x", 2_000) : FAILED("connection_deleted", 7_000),
      );
      expect(await eventsOf(a, project)).toHaveLength(ended ? 1 : 0);
    }
  });

  test("a project takes consents, registrations, handles and redirects along", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const [consent, registration, handle] = [aConsent(project), aRegistration(project), aHandle(project)];
    const redirect = id("w");
    await a.consents.open(consent, []);
    await a.registrations.put(registration, null, []);
    await a.handles.put(handle, []);
    await a.redirects.ensure({ kind: "connection", project, name: "github" }, redirect, 1_000);
    await a.projects.delete(project, []);
    expect(await b.consents.find(consent.id)).toBeNull();
    expect(await b.registrations.latest(project, registration.connectionId)).toBeNull();
    expect(await b.handles.get(handle.kind, handle.hash, 1_500)).toBeNull();
    expect(await b.redirects.owner(redirect, 1_500)).toBeNull();
  });
});
