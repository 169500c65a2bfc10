import type { TokenCredential } from "@azure/identity";
import type { SecretClient, SecretClientOptions } from "@azure/keyvault-secrets";
import { VaultGuardError } from "./keyvault-failures.ts";

/** Where a vault is not one of Azure's public clouds, or of a test. */
export type PrivateCloud = {
  /**
   * What tokens for its vaults are for. The package's own check, which knows only hosts below the audience's, is then off:
   * ours, which wants exactly this one, stays.
   */
  audience: string;
};

export type VaultOptions = {
  credential: TokenCredential;
  privateCloud: PrivateCloud | null;
  /** For one request with its token. */
  timeoutMs: number;
};

/**
 * A client of one vault by Azure's own package, within bounds that it does not have itself: it speaks to this origin only,
 * whatever a `nextLink` or a redirect says; it asks for tokens for vaults only, whatever a challenge says; it reads a bounded
 * answer in a bounded time, and repeats nothing.
 */
export async function openVault(vault: string, options: VaultOptions): Promise<SecretClient> {
  const { SecretClient: Client } = await import("@azure/keyvault-secrets");
  const { credential, privateCloud, timeoutMs } = options;
  return new Client(vault, guarded(credential, privateCloud?.audience ?? audienceOf(vault)), {
    retryOptions: { maxRetries: 0 },
    redirectOptions: { maxRetries: 0 },
    additionalPolicies: [{ policy: boundPolicy(vault, timeoutMs), position: "perRetry" }],
    ...(privateCloud && { disableChallengeResourceVerification: true }),
  });
}

/** `https://team.vault.azure.net` is one of `https://vault.azure.net`, and so in every cloud of Azure's. */
function audienceOf(vault: string): string {
  const { hostname } = new URL(vault);
  return `https://${hostname.slice(hostname.indexOf(".") + 1)}`;
}

/**
 * Who asks for a token says what it is for, and a vault's challenge says it to the package. Here nobody but the operator
 * does: whatever else a challenge names, there is no token. Which tenant it names is for the credential to allow.
 */
function guarded(credential: TokenCredential, audience: string): TokenCredential {
  const scope = `${audience}/.default`;
  return {
    getToken: async (scopes, options) => {
      const asked = [scopes].flat();
      if (asked.length === 1 && asked[0] === scope) return credential.getToken(scope, options);
      throw new VaultGuardError(`its challenge asks for a token that is not for ${audience}`);
    },
  };
}

type Policy = NonNullable<SecretClientOptions["additionalPolicies"]>[number]["policy"];

/** The last policy before the socket. */
function boundPolicy(vault: string, timeoutMs: number): Policy {
  return {
    name: "consentryBounds",
    sendRequest: async (request, next) => {
      if (new URL(request.url).origin !== vault)
        throw new VaultGuardError("it points to another host, which is not asked");
      const end = new AbortController();
      const { promise: flooded, reject } = Promise.withResolvers<never>();
      request.abortSignal = AbortSignal.any([end.signal, AbortSignal.timeout(timeoutMs)]);
      request.onDownloadProgress = ({ loadedBytes }) => {
        if (loadedBytes <= MAX_ANSWER_BYTES) return;
        end.abort();
        reject(new VaultGuardError("the vault answers with too much"));
      };
      // The package does not hear of an abort while it reads a body, so it is not waited for.
      return Promise.race([next(request), flooded]);
    },
  };
}

export function lateness(timeoutMs: number): string {
  return `the vault did not answer within ${timeoutMs / 1000} seconds`;
}

/** A secret has at most 25 KB, a page of versions 25 entries. */
const MAX_ANSWER_BYTES = 256 * 1024;
