import type { SecretClient, SecretProperties } from "@azure/keyvault-secrets";
import type { Clock } from "../core/ports.ts";
import { lateness, openVault, type PrivateCloud, type VaultOptions } from "./keyvault-client.ts";
import { type VaultFailure, VaultGuardError, vaultFailure } from "./keyvault-failures.ts";
import type { SecretId } from "./secret-ids.ts";

export type VaultOutcome<T> = { ok: true; value: T } | { ok: false; failure: VaultFailure };

/** Azure Key Vaults. Never throws for what a vault does; every question ends within the time-out, and is asked once. */
export type Vaults = {
  /** The versions of a secret that may be used now (enabled, begun, not expired), newest first. No values. */
  versions: (secret: Omit<SecretId, "version">) => Promise<VaultOutcome<string[]>>;
  value: (secret: SecretId) => Promise<VaultOutcome<string>>;
};

/**
 * Vaults by `@azure/keyvault-secrets`, which is loaded when the first one is asked. A vault that asks to wait is left alone
 * for as long as it says, by everybody here.
 */
export function createVaults(options: {
  credential: VaultOptions["credential"];
  clock: Pick<Clock, "now">;
  privateCloud?: PrivateCloud;
  timeoutMs?: number;
}): Vaults {
  const { credential, clock, privateCloud = null, timeoutMs = TIMEOUT_MS } = options;
  const clients = new Map<string, Promise<SecretClient>>();
  const waits = new Map<string, { until: number; failure: VaultFailure }>();

  function clientOf(vault: string): Promise<SecretClient> {
    const client = clients.get(vault) ?? openVault(vault, { credential, privateCloud, timeoutMs });
    clients.set(vault, client);
    return client;
  }

  async function ask<T>(
    vault: string,
    question: (client: SecretClient, signal: AbortSignal) => Promise<T>,
  ): Promise<VaultOutcome<T>> {
    const wait = waits.get(vault);
    const leftMs = (wait?.until ?? 0) - clock.now();
    if (wait && leftMs > 0) return { ok: false, failure: { ...wait.failure, waitMs: leftMs } };
    const { isRestError } = await import("@azure/keyvault-secrets");
    const late = deadline(timeoutMs);
    try {
      // A credential need not look at a signal, and it is asked in the middle.
      return {
        ok: true,
        value: await Promise.race([question(await clientOf(vault), late.signal), late.passed]),
      };
    } catch (error) {
      const failure = vaultFailure(error, isRestError);
      if (failure.waitMs > 0) waits.set(vault, { until: clock.now() + failure.waitMs, failure });
      return { ok: false, failure };
    } finally {
      late.end();
    }
  }

  return {
    versions: ({ vault, name }) =>
      ask(vault, async (client, signal) => {
        const now = clock.now();
        const found: SecretProperties[] = [];
        for await (const page of client.listPropertiesOfSecretVersions(name).byPage()) {
          found.push(...page.filter((version) => isUsable(version, now)));
          if (signal.aborted) throw new VaultGuardError(lateness(timeoutMs));
          if (found.length > MAX_VERSIONS)
            throw new VaultGuardError(
              `it has more than ${MAX_VERSIONS} usable versions; disable the old ones`,
            );
        }
        return found.toSorted(newestFirst).flatMap(({ version }) => version ?? []);
      }),
    value: ({ vault, name, version }) =>
      ask(vault, async (client) => {
        const secret = await client.getSecret(name, version === null ? {} : { version });
        if (secret.value === undefined) throw new VaultGuardError("the vault gave no value");
        return secret.value;
      }),
  };
}

const TIMEOUT_MS = 5_000;
const MAX_VERSIONS = 100;

function isUsable({ enabled, notBefore, expiresOn }: SecretProperties, now: number): boolean {
  if (enabled !== true) return false;
  return (notBefore?.getTime() ?? 0) <= now && now < (expiresOn?.getTime() ?? Infinity);
}

/** Times have whole seconds; where two are equal, every replica must still choose the same. */
function newestFirst(a: SecretProperties, b: SecretProperties): number {
  const byTime = (b.createdOn?.getTime() ?? 0) - (a.createdOn?.getTime() ?? 0);
  return byTime !== 0 ? byTime : (a.version ?? "") < (b.version ?? "") ? -1 : 1;
}

function deadline(ms: number) {
  const late = new AbortController();
  const { promise: passed, reject } = Promise.withResolvers<never>();
  // Nobody may be listening any more when it passes.
  passed.catch(() => {});
  const timer = setTimeout(() => {
    late.abort();
    reject(new VaultGuardError(lateness(ms)));
  }, ms);
  return { signal: late.signal, passed, end: () => clearTimeout(timer) };
}
