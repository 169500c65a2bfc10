/** Only reported by the suite, and of the broker's business: a tool's schema, and connections with one client for all. */
export const ALSO: readonly string[] = [
  "json-schema-2020-12-preservation",
  "auth/client-credentials-basic",
  "auth/client-credentials-jwt",
  "auth/enterprise-managed-authorization",
];

/** Scenarios about extensions belong to no revision. */
export const isExtension = (scenario: string) =>
  SDK_ONLY.includes(scenario) || (ALSO.includes(scenario) && scenario.startsWith("auth/"));

/** Only reported by the suite, and nothing that the broker does: see `extensions.ts`. */
export const SDK_ONLY: readonly string[] = ["auth/dpop", "auth/dpop-nonce", "auth/wif-jwt-bearer"];

/** Measures how long a client waits, so that beside dozens of others it may fail for no reason. */
export const TIMED: readonly string[] = ["sse-retry"];
