import { expect, test } from "vitest";
import type { Registration } from "../../src/core/consents.ts";
import type { Store } from "../../src/core/storage.ts";
import { giveGrant } from "../helpers/grants.ts";
import { onEveryEngine } from "./engines.ts";
import {
  aConnection,
  aGrant,
  aRegistration,
  anAuthServer,
  entry,
  eventsOf,
  id,
  incompressible,
  newProject,
  race,
} from "./things.ts";

const registered = ({ project }: Registration) => [entry(project, "client_registered")];

onEveryEngine("registrations", (replicas) => {
  test("a registration comes back as it was, by its issuer byte for byte, in its project only", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const full = aRegistration(project, { issuer: `https://as.example/${incompressible(6_000)}` });
    const bare = aRegistration(project, {
      kind: "metadata_document",
      clientAuth: "none",
      scopesSupported: null,
      sealed: null,
      expiresAt: null,
    });
    for (const one of [full, bare]) {
      expect(await a.registrations.put(one, null, registered(one))).toEqual(one);
      expect(await b.registrations.get(project, one.connectionId, one.issuer)).toEqual(one);
      expect(await b.registrations.get(project, one.connectionId, `${one.issuer}/`)).toBeNull();
      expect(await b.registrations.get(project, id("conn"), one.issuer)).toBeNull();
      expect(await b.registrations.get(await newProject(a), one.connectionId, one.issuer)).toBeNull();
    }
    expect(await eventsOf(b, project)).toEqual(["client_registered", "client_registered"]);
  });

  test("of twenty first ones one stands, with its audit, and all receive it", async () => {
    const { a, b } = replicas();
    const first = aRegistration(await newProject(a));
    const stand = await race({ a, b }, (store, n) => {
      const mine = { ...first, id: id("reg"), clientId: `client ${n}` };
      return store.registrations.put(mine, null, [
        entry(first.project, "client_registered", { principal: mine.id }),
      ]);
    });
    expect(new Set(stand.map((one) => one.id)).size).toBe(1);
    const { rows } = await b.audit.list(first.project, {}, { after: null, limit: 9 });
    expect(rows.map((row) => row.principal)).toEqual([stand[0]?.id]);
    expect(await b.registrations.latest(first.project, first.connectionId)).toEqual(stand[0]);
  });

  test("one is put instead of another, by one of twenty that name it", async () => {
    const { a, b } = replicas();
    const first = aRegistration(await newProject(a));
    await a.registrations.put(first, null, []);
    const make = (n: number) => ({ ...first, id: id("reg"), clientId: `client ${n}`, expiresAt: null });
    const stand = await race({ a, b }, (store, n) =>
      store.registrations.put(make(n), first.id, registered(first)),
    );
    expect(new Set(stand.map((one) => one.id)).size).toBe(1);
    expect(stand[0]?.id).not.toBe(first.id);
    expect(await b.registrations.get(first.project, first.connectionId, first.issuer)).toEqual(stand[0]);
    expect(await eventsOf(a, first.project)).toEqual(["client_registered"]);
    const late = make(99);
    expect(await a.registrations.put(late, first.id, registered(late))).toEqual(stand[0]);
    expect(await a.registrations.put(late, null, registered(late))).toEqual(stand[0]);
    expect(await eventsOf(a, first.project)).toHaveLength(1);
  });

  test("one is put although the one that it should replace is gone", async () => {
    const { a, b } = replicas();
    const one = aRegistration(await newProject(a));
    expect(await a.registrations.put(one, id("reg"), registered(one))).toEqual(one);
    expect(await b.registrations.get(one.project, one.connectionId, one.issuer)).toEqual(one);
    expect(await eventsOf(a, one.project)).toEqual(["client_registered"]);
  });

  test("the latest is the one that was discovered last", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const connectionId = id("conn");
    expect(await b.registrations.latest(project, connectionId)).toBeNull();
    const [old, young] = [
      aRegistration(project, { connectionId, issuer: "https://old.example", discoveredAt: 5_000 }),
      aRegistration(project, { connectionId, issuer: "https://young.example", discoveredAt: 6_000 }),
    ];
    for (const one of [young, old]) await a.registrations.put(one, null, []);
    await a.registrations.put(aRegistration(project, { discoveredAt: 9_000 }), null, []);
    expect(await b.registrations.latest(project, connectionId)).toEqual(young);
    const news = {
      server: { ...anAuthServer, tokenEndpoint: "https://old.example/moved" },
      resource: "https://mcp.example/other",
      scopesSupported: null,
      discoveredAt: 7_000,
    };
    await a.registrations.seen({ ...old, ...news });
    expect(await b.registrations.latest(project, connectionId)).toEqual({ ...old, ...news });
  });

  test("what was seen of a registration that stands there no more changes nothing", async () => {
    const { a, b } = replicas();
    const one = aRegistration(await newProject(a));
    await a.registrations.put(one, null, []);
    await a.registrations.seen({ ...one, id: id("reg"), resource: "https://evil.example" });
    await a.registrations.seen({ ...one, connectionId: id("conn"), resource: "https://evil.example" });
    expect(await b.registrations.get(one.project, one.connectionId, one.issuer)).toEqual(one);
  });

  test("a change whose audit cannot be written does not happen", async () => {
    const { a } = replicas();
    const one = aRegistration(await newProject(a));
    await a.registrations.put(one, null, []);
    const known = registered(one);
    await a.audit.append(known);
    await expect(a.registrations.put({ ...one, id: id("reg") }, one.id, known)).rejects.toThrow();
    expect(await a.registrations.get(one.project, one.connectionId, one.issuer)).toEqual(one);
  });

  const retiring: [string, (store: Store, project: string) => Promise<unknown>][] = [
    ["is gone", (store, project) => store.connections.delete(project, "github", 9, [])],
    ["means something else", (store, project) => store.connections.replace(moved(project), 1, [])],
  ];
  const connected = (project: string) => aConnection(project, { id: `conn_${project}` });
  const moved = (project: string) => {
    const { sealed, connection } = connected(project);
    return { sealed, connection: { ...connection, version: 2, generation: 2 } };
  };
  test.each(retiring)(
    "one whose connection %s is found by its id for as long as it is needed",
    async (_, end) => {
      const { a, b } = replicas();
      const project = await newProject(a);
      const record = connected(project);
      const { id: connectionId } = record.connection;
      await a.connections.insert(record, []);
      const old = aRegistration(project, { connectionId });
      await a.registrations.put(old, null, []);
      expect(await b.registrations.find(project, old.id)).toEqual(old);
      const users = ["app:ann", "app:bob"] as const;
      const grants = users.map((user) => aGrant(project, { connectionId, user }));
      for (const grant of grants) await giveGrant(a, grant);
      await end(b, project);

      expect(await a.registrations.find(project, old.id)).toEqual(old);
      expect(await a.registrations.find(await newProject(a), old.id)).toBeNull();
      expect(await a.registrations.get(project, connectionId, old.issuer)).toBeNull();
      expect(await a.registrations.latest(project, connectionId)).toBeNull();
      const fresh = aRegistration(project, { connectionId, generation: 2, clientId: "client-2" });
      await a.registrations.seen({ ...old, resource: "https://evil.example" });
      expect(await a.registrations.put(fresh, old.id, [])).toEqual(fresh);
      expect(await a.registrations.get(project, connectionId, old.issuer)).toEqual(fresh);

      const [ann, bob] = grants;
      if (!ann || !bob) throw new Error("not two");
      await b.grants.emptied(ann, ann.version, "revoked");
      expect(await a.registrations.find(project, old.id)).toEqual(old);
      await b.grants.emptied(bob, bob.version, "revoked");
      expect(await a.registrations.find(project, old.id)).toBeNull();
      expect(await a.registrations.find(project, fresh.id)).toEqual(fresh);
    },
  );

  test.each(retiring)("one whose connection %s goes at once when no grant needs it", async (_, end) => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const record = connected(project);
    await a.connections.insert(record, []);
    const mine = aRegistration(project, { connectionId: record.connection.id });
    const theirs = aRegistration(project);
    for (const each of [mine, theirs]) await a.registrations.put(each, null, []);
    const stranger = await giveGrant(a, aGrant(project));
    await a.grants.revoke(stranger, 9_000, []);
    await end(b, project);
    expect(await a.registrations.find(project, mine.id)).toBeNull();
    expect(await a.registrations.find(project, theirs.id)).toEqual(theirs);
  });
});
