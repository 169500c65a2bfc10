import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { configDefaults, defineConfig } from "vitest/config";
import { OWN_PROCESS } from "./test/own-process.ts";

// What takes minutes: `npm run test:long`.
const LONG = "test/long/**";

// Where Debian puts Chromium. Without it the tests that need a browser are left out, and said to be; CI names it, and then
// they must run.
const chromium = process.env["CONSENTRY_CHROMIUM"] ?? "/usr/bin/chromium";
const hasBrowser = process.env["CONSENTRY_CHROMIUM"] !== undefined || existsSync(chromium);
if (!hasBrowser) console.warn(`test/browser is left out: there is no ${chromium} (see CONSENTRY_CHROMIUM).`);
const exclude = [...configDefaults.exclude, LONG, ...(hasBrowser ? [] : ["test/browser/**"])];

// The processes of the tests, and the brokers that they start, read what one of them has compiled: a third less to start.
process.env["NODE_COMPILE_CACHE"] ??= join(import.meta.dirname, "node_modules/.cache/node");

// Else workerd's keeper asks the world which data centre it is in.
process.env["CLOUDFLARE_CF_FETCH_ENABLED"] ??= "false";

export default defineConfig(({ mode }) => ({
  test: {
    globalSetup: ["test/helpers/postgres.ts", "test/helpers/d1.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Vitest itself would use one core of two.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects:
      mode === "long"
        ? [{ extends: true, test: { name: "long", include: [`${LONG}/*.test.ts`] } }]
        : [
            { extends: true, test: { name: "own process", include: OWN_PROCESS, exclude } },
            {
              extends: true,
              test: {
                name: "shared process",
                include: ["test/**/*.test.ts"],
                exclude: [...exclude, ...OWN_PROCESS],
                // To load the broker anew for every file took longer than most of them.
                isolate: false,
              },
            },
          ],
  },
}));
