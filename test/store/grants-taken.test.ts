// Grants that go with a user, with a connection, or with what a connection meant.
import { expect, test } from "vitest";
import type { AuditEntry } from "../../src/core/audit.ts";
import { CONSENT_LEAP, type Grant } from "../../src/core/grants.ts";
import type { Store } from "../../src/core/storage.ts";
import { giveGrant } from "../helpers/grants.ts";
import { onEveryEngine } from "./engines.ts";
import {
  aConnection,
  aConsent,
  aGrant,
  authorizing,
  bigBox,
  entry,
  EVERYTHING,
  id,
  newProject,
} from "./things.ts";

type Case = {
  title: string;
  outcome: string;
  take: (store: Store, project: string, each?: AuditEntry) => Promise<unknown>;
};

const connection = (project: string, n: number) =>
  aConnection(project, { name: n === 0 ? "github" : `other-${n}`, id: `conn_${project}${n}` });
const keyOf = ({ project, connectionId, user }: Grant) => ({ project, connectionId, user });

/** Grants of two connections and two users each, one of them with a large box, one that needs consent. */
async function aWorld(store: Store): Promise<{ project: string; grants: Grant[] }> {
  const project = await newProject(store);
  const grants: Grant[] = [];
  for (const n of [0, 1]) {
    const record = connection(project, n);
    await store.connections.insert(record, []);
    for (const user of ["app:ann", "app:bob"] as const) {
      const sealed = user === "app:ann" ? bigBox(400_000) : new Uint8Array([7]);
      const grant = aGrant(project, { connectionId: record.connection.id, user, sealed });
      grants.push(await giveGrant(store, grant));
    }
  }
  return { project, grants };
}

const next = (project: string) => {
  const record = connection(project, 0);
  return { ...record, connection: { ...record.connection, version: 2, generation: 2 } };
};
const cases: (Case & { isMine: (grant: Grant) => boolean })[] = [
  {
    title: "a user who is blocked",
    outcome: "user_blocked",
    take: (store, project, each) => store.users.block({ project, id: "app:ann", at: 9 }, [], each),
    isMine: ({ user }) => user === "app:ann",
  },
  {
    title: "a connection that is deleted",
    outcome: "connection_deleted",
    take: (store, project, each) => store.connections.delete(project, "github", 9, [], each),
    isMine: ({ project, connectionId }) => connectionId === `conn_${project}0`,
  },
  {
    title: "a connection that means something else",
    outcome: "connection_changed",
    take: (store, project, each) => store.connections.replace(next(project), 1, [], each),
    isMine: ({ project, connectionId }) => connectionId === `conn_${project}0`,
  },
];

onEveryEngine("grants that are taken along", (replicas) => {
  test.each(cases)("go with $title, whole, each with its audit; others stay", async ({ take, isMine }) => {
    const { a, b } = replicas();
    const { project, grants } = await aWorld(a);
    const stranger = await aWorld(a);
    await a.grants.fail(keyOf(grants.find(isMine) ?? aGrant(project)), 1, "invalid_grant", []);
    const template = entry(project, "grant_revoked", { principal: "key:admin", detail: { why: "so" } });
    await take(b, project, template);
    for (const grant of grants) {
      const now = isMine(grant) ? { ...grant, status: "revoked", reason: null } : grant;
      expect(await a.grants.get(keyOf(grant))).toEqual(now);
    }
    for (const grant of stranger.grants) expect(await a.grants.get(keyOf(grant))).toEqual(grant);
    const mine = grants.filter(isMine);
    const { rows } = await a.audit.list(project, { event: "grant_revoked" }, EVERYTHING);
    expect(rows.map((row) => row.detail["grant"] as string).toSorted()).toEqual(
      mine.map((grant) => grant.id as string).toSorted(),
    );
    for (const row of rows) {
      const grant = mine.find((each) => each.id === row.detail["grant"]);
      const name = grant?.connectionId.endsWith("0") ? "github" : "other-1";
      expect(row).toEqual({
        ...template,
        id: row.id,
        user: grant?.user,
        connection: name,
        detail: { why: "so", grant: grant?.id },
      });
    }
    expect(new Set(rows.map((row) => row.id)).size).toBe(mine.length);
  });

  test.each(cases)("are to be told of after $title, and of nobody else", async ({ take, isMine }) => {
    const { a, b } = replicas();
    const { project, grants } = await aWorld(a);
    const mine = grants.filter(isMine);
    const told = mine[0] ?? aGrant(project);
    await a.grants.revoke(keyOf(told), 9_000, []);
    await a.grants.emptied(keyOf(told), told.version, "revoked");
    await take(b, project);
    const idsOf = (found: { rows: Grant[] }) => found.rows.map((grant) => grant.id as string).toSorted();
    const left = mine
      .slice(1)
      .map((grant) => grant.id as string)
      .toSorted();
    const everything = await a.grants.unrevoked(EVERYTHING);
    expect(idsOf({ rows: everything.rows.filter((grant) => grant.project === project) })).toEqual(left);
    const [of] = mine.slice(1);
    if (!of) throw new Error("nothing is left");
    const ofConnection = await a.grants.unrevoked(EVERYTHING, { project, connectionId: of.connectionId });
    expect(idsOf(ofConnection)).toContain(of.id);
    expect(idsOf(await a.grants.unrevoked(EVERYTHING, { project, user: of.user }))).toContain(of.id);
    expect(idsOf(await a.grants.unrevoked(EVERYTHING, { project, user: "app:nobody" }))).toEqual([]);
    expect(idsOf(await a.grants.unrevoked(EVERYTHING, { project, connectionId: id("conn") }))).toEqual([]);
  });

  test("stay when a change means nothing else, or comes late", async () => {
    const { a, b } = replicas();
    const { project, grants } = await aWorld(a);
    const record = next(project);
    const same = { ...record, connection: { ...record.connection, generation: 1 } };
    const template = entry(project, "grant_revoked");
    expect(await b.connections.replace(same, 1, [], template)).toBe(true);
    expect(await b.connections.replace(record, 1, [], template)).toBe(false);
    for (const grant of grants) expect(await a.grants.get(keyOf(grant))).toEqual(grant);
    expect((await a.audit.list(project, {}, EVERYTHING)).rows).toEqual([]);
  });

  test.each(cases)(
    "of $title and a consent that is finished at the same time, no grant is left",
    async (one) => {
      const { a, b } = replicas();
      for (let round = 0; round < 10; round++) {
        const { project, grants } = await aWorld(a);
        const grant = grants.find(one.isMine) ?? aGrant(project);
        const attempt = id("w");
        const consent = aConsent(project, { ...keyOf(grant), browserHash: "browser" });
        await a.consents.open(consent, []);
        await a.consents.authorize(authorizing(consent, { attempt }), []);
        const fresh = { ...grant, version: grant.version + CONSENT_LEAP, sealed: new Uint8Array([8]) };
        const template = entry(project, "grant_revoked");
        const [made] = await Promise.all([
          a.grants.put(fresh, { id: consent.id, attempt, at: 8 }, []),
          one.take(b, project, template),
        ]);
        const left = await a.grants.get(keyOf(grant));
        expect(left).toEqual({ ...(made ?? grant), status: "revoked" });
        expect((await a.consents.find(consent.id))?.outcome).toBe(made ? null : one.outcome);
      }
    },
  );

  test.each(cases)("are all there when the audit of $title cannot be written", async ({ take }) => {
    const { a } = replicas();
    const { project, grants } = await aWorld(a);
    const template = entry(project, "grant_revoked");
    const taken = grants.map((grant) => ({
      ...template,
      id: `${template.id.slice(0, 20)}${grant.id.slice(22)}` as AuditEntry["id"],
    }));
    await a.audit.append(taken);
    await expect(take(a, project, template)).rejects.toThrow();
    for (const grant of grants) expect(await a.grants.get(keyOf(grant))).toEqual(grant);
  });
});
