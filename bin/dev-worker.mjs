// The broker as a Worker on this machine: `npm run dev:worker`. Its secrets are made once, in .dev.vars, which nobody else reads and git
// does not keep; its database is a D1 of wrangler's below .wrangler.
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { wrangler } from "./wrangler.mjs";

const PORT = process.env.PORT ?? "8787";

const vars = join(import.meta.dirname, "../.dev.vars");
if (!existsSync(vars)) {
  const lines = [
    `CONSENTRY_ADMIN_KEY=csk_${randomBytes(32).toString("base64url")}`,
    `CONSENTRY_KEYRING=k1:${randomBytes(32).toString("base64")}`,
    "CONSENTRY_EGRESS_ALLOW=loopback",
  ];
  await writeFile(vars, `${lines.join("\n")}\n`, { mode: 0o600, flag: "wx" });
  console.log(`Made ${vars}: the key of this broker and its settings are in it.`);
}
await wrangler(["d1", "migrations", "apply", "DB", "--local"], { env: { CI: "true" } });
// Another port another time is another public URL, unless somebody has written one down.
const isNamed = /^\s*CONSENTRY_PUBLIC_URL\s*=/m.test(await readFile(vars, "utf8"));
const named = isNamed ? [] : ["--var", `CONSENTRY_PUBLIC_URL:http://127.0.0.1:${PORT}`];
await wrangler(["dev", "--ip", "127.0.0.1", "--port", PORT, ...named]);
