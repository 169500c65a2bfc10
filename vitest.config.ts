import { existsSync } from "node:fs";
import { configDefaults, defineConfig } from "vitest/config";

// Where Debian puts Chromium. Without it the tests that need a browser are left out, and said to be; CI names it, and then
// they must run.
const chromium = process.env["CONSENTRY_CHROMIUM"] ?? "/usr/bin/chromium";
const hasBrowser = process.env["CONSENTRY_CHROMIUM"] !== undefined || existsSync(chromium);
if (!hasBrowser) console.warn(`test/browser is left out: there is no ${chromium} (see CONSENTRY_CHROMIUM).`);

// What takes minutes: `npm run test:long`.
const long = "test/long/**";

export default defineConfig(({ mode }) => ({
  test: {
    include: mode === "long" ? [`${long}/*.test.ts`] : ["test/**/*.test.ts"],
    exclude: [
      ...configDefaults.exclude,
      ...(mode === "long" ? [] : [long]),
      ...(hasBrowser ? [] : ["test/browser/**"]),
    ],
    globalSetup: ["test/helpers/postgres.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
}));
