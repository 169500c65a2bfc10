import type { TokenCredential } from "@azure/identity";

/**
 * The identity that the machine gives: environment, workload identity, managed identity, on a laptop the developer's own
 * (`DefaultAzureCredential`). The package is loaded when the first token is asked for.
 */
export function createDefaultCredential(): TokenCredential {
  let credential: Promise<TokenCredential> | null = null;
  return {
    getToken: async (scopes, options) => {
      credential ??= import("@azure/identity").then((azure) => new azure.DefaultAzureCredential());
      return (await credential).getToken(scopes, options);
    },
  };
}
