import { existsSync } from "node:fs";
import { configDefaults, defineConfig } from "vitest/config";

// Where Debian puts Chromium. Without it the tests that need a browser are left out, and said to be; CI names it, and then
// they must run.
const chromium = process.env["CONSENTRY_CHROMIUM"] ?? "/usr/bin/chromium";
const hasBrowser = process.env["CONSENTRY_CHROMIUM"] !== undefined || existsSync(chromium);
if (!hasBrowser) console.warn(`test/browser is left out: there is no ${chromium} (see CONSENTRY_CHROMIUM).`);

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: [...configDefaults.exclude, ...(hasBrowser ? [] : ["test/browser/**"])],
    globalSetup: ["test/helpers/postgres.ts", "test/helpers/d1.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
