// The Worker as `wrangler deploy` would upload it, in workerd with a D1 database: `node bench/workerd.ts <worker.js> <folder>`, the
// settings as they are in the environment. Says `ready <url>`.
import { join } from "node:path";
// What wrangler runs workerd with, and brings.
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { readMigrations } from "../src/store/migrate.node.ts";
import journal from "../drizzle/sqlite/meta/_journal.json" with { type: "json" };

const [script = "", folder = ""] = process.argv.slice(2);
const settings = Object.entries(process.env).filter(([name]) => name.startsWith("CONSENTRY_"));
const workerd = new Miniflare(
  convertV4MiniflareOptions({
    host: "127.0.0.1",
    port: 0,
    // Else it asks the world which data centre this is.
    cf: false,
    modulesRoot: join(script, ".."),
    modules: [{ type: "ESModule", path: script }],
    // As wrangler.toml has it.
    compatibilityDate: "2026-10-01",
    compatibilityFlags: ["nodejs_als", "enable_request_signal"],
    d1Databases: ["DB"],
    d1Persist: join(folder, "d1"),
    bindings: Object.fromEntries(settings.map(([name, value]) => [name, value ?? ""])),
  }),
);
const { origin } = await workerd.ready;
await migrate();
process.once("SIGTERM", () => void workerd.dispose().then(() => process.exit()));
console.log(`ready ${origin}`);

/** What `wrangler d1 migrations apply` does. */
async function migrate(): Promise<void> {
  const d1 = await workerd.getD1Database("DB");
  const statements = readMigrations(join(import.meta.dirname, "../drizzle/sqlite")).flatMap(
    (migration) => migration.statements,
  );
  await d1.batch([
    ...statements.map((sql) => d1.prepare(sql)),
    d1.prepare(
      "create table d1_migrations (id integer primary key autoincrement, name text unique, applied_at timestamp default current_timestamp not null)",
    ),
    ...journal.entries.map(({ tag }) =>
      d1.prepare("insert into d1_migrations (name) values (?)").bind(`${tag}.sql`),
    ),
  ]);
}
