import { ClientSecretCredential } from "@azure/identity";
import type { Clock } from "../../src/core/ports.ts";
import { createVaults, type Vaults } from "../../src/secrets/keyvault.ts";
import { type AzureAuthority, startAzureAuthority } from "./azure-authority.ts";
import { type AzureVault, startAzureVault, VAULT_AUDIENCE, VAULT_TENANT } from "./azure-vault.ts";

export type AzureHere = {
  authority: AzureAuthority;
  vault: AzureVault;
  /** The broker's identity at that authority. */
  credential: (secret?: string) => ClientSecretCredential;
  /** For `Seams`: the real package, with the broker's identity. */
  vaults: (clock: Pick<Clock, "now">, timeoutMs?: number) => Vaults;
  stop: () => Promise<void>;
};

const CLIENT = "22222222-2222-2222-2222-222222222222";
const SECRET = "broker-app-secret";

/** An authority that knows the broker, and a vault that takes its tokens, both trusted by this process. */
export async function startAzure(): Promise<AzureHere> {
  const authority = await startAzureAuthority();
  authority.trust();
  authority.apps.set(CLIENT, { oid: "33333333-3333-3333-3333-333333333333", secret: SECRET });
  const vault = await startAzureVault(authority);
  vault.trust();
  const credential: AzureHere["credential"] = (secret = SECRET) =>
    new ClientSecretCredential(VAULT_TENANT, CLIENT, secret, {
      authorityHost: authority.url,
      disableInstanceDiscovery: true,
    });
  return {
    authority,
    vault,
    credential,
    vaults: (clock, timeoutMs = 5_000) =>
      createVaults({
        credential: credential(),
        clock,
        privateCloud: { audience: VAULT_AUDIENCE },
        timeoutMs,
      }),
    stop: async () => {
      await vault.stop();
      await authority.stop();
    },
  };
}
