import { defineConfig } from "vitest/config";

// What concerns Workers, whole: the store's contract on D1, the broker in workerd, and of the flows and attacks on Node those that need nothing
// of a broker but its port.
const SAME_SENTENCES = [
  "flows/adhoc",
  "flows/agents",
  "flows/approvals",
  "flows/bad-input",
  "flows/explicit",
  "flows/include",
  "flows/model",
  "flows/trace-context",
  "flows/wire",
  "attacks/a05-foreign-handles",
];

// Wrangler's proxies stand before and behind workerd: they answer 500 for a server that is away or redirects, and tell nobody that a caller or
// a server has gone. In workerd itself such a call ends as docs/workers.md says.
const NOT_THROUGH_PROXIES = [
  "a server that is down fails its own calls",
  "closes mid-answer",
  "redirects elsewhere",
  "a caller that leaves cancels the call",
];

// Else workerd's keeper asks the world which data centre it is in.
process.env["CLOUDFLARE_CF_FETCH_ENABLED"] ??= "false";

export default defineConfig({
  test: {
    globalSetup: ["test/helpers/postgres.ts", "test/helpers/d1.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    include: [
      "test/store/**/*.test.ts",
      "test/worker/**/*.test.ts",
      ...SAME_SENTENCES.map((name) => `test/${name}.test.ts`),
    ],
    testNamePattern: new RegExp(`^(?!.*(${NOT_THROUGH_PROXIES.join("|")}))`),
    env: { CONSENTRY_TEST_D1: "all", CONSENTRY_TEST_DOOR: "workers" },
  },
});
