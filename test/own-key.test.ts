// The operator's key where versions of the program serve side by side: this process's own, and no row.
import { expect, test } from "vitest";
import { bootstrapKey } from "../src/bootstrap.ts";
import { withOwnKey } from "../src/own-key.ts";
import { createNodeCrypto } from "../src/secrets/crypto.node.ts";
import { openSqlite } from "../src/store/better-sqlite3.ts";
import { systemClock } from "../src/system-clock.ts";
import { migrations } from "./store/engines.ts";
import { newProject } from "./store/things.ts";

const world = { crypto: createNodeCrypto(), clock: systemClock, local: true };

test("everybody who asks for it is given this process's own, with the project and the user's block as for any key", async () => {
  const rows = openSqlite(":memory:", { migrations: migrations.sqlite });
  const [own, other] = [await bootstrapKey(world, "own"), await bootstrapKey(world, "other")];
  const store = withOwnKey(rows, own);
  const project = await newProject(store);
  await store.users.block({ project, id: "app:ann", at: 1 }, []);
  await rows.keys.putBootstrap(other);
  expect(await store.keys.getBootstrap()).toEqual(own);
  const ask = (hash: string, user: "app:ann" | "app:bob") => store.keys.authenticate({ hash, project, user });
  expect(await ask(own.hash, "app:ann")).toMatchObject({
    key: own,
    project: { name: project },
    userBlocked: true,
  });
  expect(await ask(own.hash, "app:bob")).toMatchObject({ key: own, userBlocked: false });
  expect(await ask(other.hash, "app:bob")).toBeNull();
  expect(await store.keys.authenticate({ hash: own.hash, project: "none", user: null })).toEqual({
    key: own,
    project: null,
    userBlocked: false,
  });
  await store.close();
});
