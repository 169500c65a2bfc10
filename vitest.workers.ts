import { defineConfig } from "vitest/config";

// What concerns Workers, whole: the store's contract on D1, the broker in workerd, and of the flows and attacks on Node those that need nothing
// of a broker but its port, its log, its database's bytes and a clock that can be moved.
const SAME_SENTENCES = [
  "flows/adhoc",
  "flows/agents",
  "flows/approvals",
  "flows/asked-twice",
  "flows/bad-input",
  "flows/callers-by-token",
  "flows/compact",
  "flows/consent",
  "flows/consent-midway",
  "flows/conversations",
  "flows/disconnect",
  "flows/explicit",
  "flows/include",
  "flows/model",
  "flows/model-responses",
  "flows/oauth-edits",
  "flows/sessions-end",
  "flows/tools-changed",
  "flows/trace-context",
  "flows/wire",
  "attacks/a01-consent-link-for-another",
  "attacks/a02-account-of-another",
  "attacks/a02-allow-is-what-was-shown",
  "attacks/a03-state-replayed",
  "attacks/a05-foreign-background",
  "attacks/a05-foreign-handles",
  "attacks/a07-other-authorization-server",
  "attacks/a12-redirect",
  "attacks/a13-redirects",
  "attacks/a16-oauth-canary",
  "attacks/a18-pages",
  "attacks/a20-spoiled-token-answers",
  "attacks/a21-approvals",
  "attacks/a21-taken-away",
  "attacks/a22-consent-page",
  "attacks/a23-tools-that-change",
  "attacks/canary",
];

// Wrangler's proxies stand before and behind workerd: they answer 500 for a server that is away or redirects, tell nobody that a caller or
// a server has gone, and may lose the answer to who still uploads. In workerd itself such a call ends as docs/workers.md says.
const NOT_THROUGH_PROXIES = [
  "a server that is down fails its own calls",
  "closes mid-answer",
  "redirects elsewhere",
  "a caller that leaves cancels the call",
  "over 4 MiB",
];

// What docs/workers.md says that a Worker does not do: it is never stopped, and listens to no stream of changes.
const NOT_OF_WORKERS = [
  "loses its sessions when the broker stops",
  "a listing that its server keeps for an hour",
];

// Else workerd's keeper asks the world which data centre it is in.
process.env["CLOUDFLARE_CF_FETCH_ENABLED"] ??= "false";

export default defineConfig({
  test: {
    globalSetup: ["test/helpers/postgres.ts", "test/helpers/d1.ts", "test/helpers/clocked-build.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    include: [
      "test/store/**/*.test.ts",
      "test/worker/**/*.test.ts",
      ...SAME_SENTENCES.map((name) => `test/${name}.test.ts`),
    ],
    testNamePattern: new RegExp(`^(?!.*(${[...NOT_THROUGH_PROXIES, ...NOT_OF_WORKERS].join("|")}))`),
    env: { CONSENTRY_TEST_D1: "all", CONSENTRY_TEST_DOOR: "workers" },
  },
});
