/**
 * Files of tests that change or read what a process has one of: its environment, its managed identity, its warnings and faults,
 * its memory. Each has a process of its own; all others share a few. `own-process.test.ts` keeps the list.
 */
export const OWN_PROCESS = [
  "test/attacks/a24-hostile-upstream.egress.test.ts",
  "test/attacks/a24-hostile-upstream.mcp.test.ts",
  "test/clients/ai-sdk-ui.test.ts",
  "test/clients/ai-sdk.test.ts",
  "test/clients/langchain.test.ts",
  "test/clients/openai-agents.test.ts",
  "test/clients/openai.test.ts",
  "test/secrets/azure-credential.test.ts",
  "test/secrets/entra-app-service.test.ts",
  "test/secrets/entra-app.test.ts",
  "test/secrets/entra-imds.test.ts",
  "test/secrets/entra-kubernetes-managed.test.ts",
  "test/secrets/entra-managed-first.test.ts",
  "test/upstream/egress-web.test.ts",
  "test/upstream/egress.test.ts",
  "test/upstream/mcp-failures.test.ts",
];
