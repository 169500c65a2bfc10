// What PostgreSQL's own tests cannot show on the run's shared server: TLS, a server that ends, and one that falls silent.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import type { UserId } from "../../src/core/ids.ts";
import type { Store } from "../../src/core/storage.ts";
import { untilKept } from "../../src/core/until-kept.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { selfSigned } from "../helpers/certificate.ts";
import { openLine } from "../helpers/frozen-line.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { type Cluster, startCluster } from "../helpers/postgres-cluster.ts";
import { migrations } from "./engines.ts";
import { entry, eventsOf, newProject } from "./things.ts";

const passing = expect.objectContaining({
  code: "unavailable",
  details: { what: "database", passing: true },
});
const open = (url: string) => openPostgres(url, { migrations: migrations.pg, log: () => {} });
const hasPostgres = inject("postgresUrl") !== "";

describe.skipIf(!hasPostgres)("a PostgreSQL that speaks TLS alone", () => {
  const folder = mkdtempSync(join(tmpdir(), "consentry-pg-ca-"));
  const ca = join(folder, "ca.pem");
  const otherCa = join(folder, "other.pem");
  let cluster: Cluster;
  const at = (host: string, query: string) => {
    const url = new URL(cluster.url);
    url.hostname = host;
    return `${url.href}?${query}`;
  };

  beforeAll(async () => {
    const tls = selfSigned("localhost", "rsa");
    writeFileSync(ca, tls.cert);
    writeFileSync(otherCa, selfSigned("localhost").cert);
    cluster = await startCluster({ tls });
  });
  afterAll(async () => {
    await cluster.stop();
    rmSync(folder, { recursive: true });
  });

  test("is spoken to with its private CA, and the connections that the pool makes are encrypted, too", async () => {
    const store = await open(at("localhost", `sslmode=verify-full&sslrootcert=${ca}`));
    await Promise.all(Array.from({ length: 20 }, () => store.ping()));
    expect(await newProject(store)).toMatch(/./);
    await store.close();
  });

  test.each([
    ["another CA", "localhost", () => `sslmode=verify-full&sslrootcert=${otherCa}`],
    ["no CA that is known", "localhost", () => "sslmode=verify-full"],
    ["a host that the certificate does not name", "127.0.0.1", () => `sslmode=verify-full&sslrootcert=${ca}`],
    ["no TLS", "localhost", () => "sslmode=disable"],
    ["a file that is not there", "localhost", () => `sslmode=verify-full&sslrootcert=${folder}/none.pem`],
  ])("is refused with %s", async (_, host, query) => {
    await expect(open(at(host, query()))).rejects.toEqual(passing);
  });
});

describe.skipIf(!hasPostgres)("a PostgreSQL that ends and comes back", () => {
  let cluster: Cluster;
  let store: Store;

  beforeAll(async () => {
    cluster = await startCluster({ durable: true });
    store = await open(cluster.url);
  });
  afterAll(async () => {
    await store.close();
    await cluster.stop();
  });

  test.each(["fast", "immediate"] as const)(
    "under load (%s): every list is there whole or not at all, no answer is wrong, and it recovers by itself",
    async (how) => {
      const project = await newProject(store);
      const sure: UserId[] = [];
      const unsure: UserId[] = [];
      const faults: unknown[] = [];
      let over = false;
      const worker = async (name: string) => {
        for (let n = 0; !over; n++) {
          const id: UserId = `app:${name}-${n}`;
          try {
            await store.users.block({ project, id, at: 1 }, [entry(project, "user_blocked")]);
            sure.push(id);
          } catch (error) {
            faults.push(error);
            unsure.push(id);
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
        }
      };
      const load = Array.from({ length: 12 }, (_, at) => worker(String(at)));
      const reaches = async (list: readonly unknown[], length: number) => {
        await expect.poll(() => list.length, { timeout: 20_000 }).toBeGreaterThan(length);
      };
      await reaches(sure, 20);
      await cluster.halt(how);
      await reaches(faults, 12);
      const before = sure.length;
      await cluster.resume();
      await reaches(sure, before + 20);
      over = true;
      await Promise.all(load);
      expect(faults).toEqual(faults.map(() => passing));

      // Of what was answered nothing is lost; of what was not, row and audit stand or fall together.
      const blocked = await Promise.all([...sure, ...unsure].map((id) => store.users.get(project, id)));
      const there = blocked.filter((user) => user?.status === "blocked").length;
      expect(blocked.slice(0, sure.length).every((user) => user?.status === "blocked")).toBe(true);
      let audited = 0;
      for (let after: string | null = null; ;) {
        const { rows, more } = await store.audit.list(project, {}, { after, limit: 500 });
        audited += rows.length;
        if (!more) break;
        after = rows.at(-1)?.id ?? null;
      }
      expect(audited).toBe(there);
    },
    60_000,
  );
});

test.skipIf(!hasPostgres)(
  "a server that falls silent is unavailable after its time, and the pool gets over it",
  async () => {
    const url = new URL(await createDatabase());
    const line = await openLine(Number(url.port));
    url.port = String(line.port);
    const store = await open(`${url.href}?query_timeout=500`);
    const project = await newProject(store);
    await Promise.all(Array.from({ length: 10 }, () => store.ping()));
    line.freeze();
    const ended: string[] = [];
    const failing = async (name: string, work: Promise<unknown>) => {
      await expect(work).rejects.toEqual(passing);
      ended.push(name);
    };
    const list = failing(
      "a list",
      store.users.block({ project, id: "app:ann", at: 1 }, [entry(project, "user_blocked")]),
    );
    await new Promise((resolve) => setTimeout(resolve, 250));
    await Promise.all([list, failing("what began in the middle of it", store.ping())]);
    // A rollback that nobody answers would have taken the list as long again.
    expect(ended).toEqual(["a list", "what began in the middle of it"]);
    line.thaw();
    await store.users.block({ project, id: "app:bob", at: 1 }, [entry(project, "user_blocked")]);
    await expect.poll(() => eventsOf(store, project)).toEqual(["user_blocked"]);
    await store.close();
    await line.stop();
  },
);

test.skipIf(!hasPostgres)(
  "what must be kept is kept, though the connection that had it first was silent for longer than all the time",
  async () => {
    const url = new URL(await createDatabase());
    const line = await openLine(Number(url.port));
    url.port = String(line.port);
    const store = await open(`${url.href}?query_timeout=1000`);
    const project = await newProject(store);
    await Promise.all(Array.from({ length: 10 }, () => store.ping()));
    line.freeze();
    // A second of waiting is as long as 100 seconds are.
    const began = Date.now();
    const clock = {
      now: () => began + (Date.now() - began) * 100,
      sleep: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms / 100)),
    };
    const tries = await untilKept(clock, async (at) => {
      await store.users
        .block({ project, id: "app:ann", at: 1 }, [entry(project, "user_blocked")])
        .finally(() => line.thaw());
      return at;
    });
    expect(tries).toBeGreaterThan(1);
    expect(await eventsOf(store, project)).toEqual(["user_blocked"]);
    await store.close();
    await line.stop();
  },
);
