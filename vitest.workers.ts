import { defineConfig, mergeConfig } from "vitest/config";
import config from "./vitest.config.ts";

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

export default mergeConfig(
  { ...config, test: { ...config.test, include: [] } },
  defineConfig({
    test: {
      include: [
        "test/store/**/*.test.ts",
        "test/worker/**/*.test.ts",
        ...SAME_SENTENCES.map((name) => `test/${name}.test.ts`),
      ],
      testNamePattern: new RegExp(`^(?!.*(${NOT_THROUGH_PROXIES.join("|")}))`),
      env: { CONSENTRY_TEST_D1: "all", CONSENTRY_TEST_DOOR: "workers" },
    },
  }),
);
