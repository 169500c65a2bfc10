import { join } from "node:path";
import type { Config } from "./config.ts";
import type { Clock, Log } from "./core/ports.ts";
import type { SecretReferences } from "./core/secret-references.ts";
import { dataFolder } from "./first-start.ts";
import type { Vaults } from "./secrets/keyvault.ts";
import { createReferences } from "./secrets/references.ts";
import { createSecretFiles } from "./secrets/secret-files.node.ts";
import { parseSecretId } from "./secrets/secret-ids.ts";
import { type OwnSecrets, parseSecretSources } from "./secrets/secret-sources.ts";

// Secrets that are kept elsewhere, as the operator lends them. Part of the door `node.ts`.

/**
 * `places`: where secrets of the broker's own are that `config` does not know, as `env:NAME` or `file:path`. `operatorUrls`: the
 * vaults that may be asked, to be printed at start. Throws `SecretSourcesError`.
 */
export function lendSecrets(
  config: Config,
  { places, ...world }: { vaults: Vaults; clock: Clock; log: Log; places: readonly string[] },
): { references: SecretReferences; operatorUrls: { name: string; url: string }[] } {
  const sources = parseSecretSources(config.secretSources, ownSecrets(config, places));
  const files = createSecretFiles([...ownFiles(config), ...behind("file:", places)]);
  return {
    references: createReferences({ ...world, sources, files, env: process.env }),
    operatorUrls: sources.vaults.map((url) => ({ name: "CONSENTRY_SECRET_SOURCES", url })),
  };
}

/** What the broker stands on is worth more than all that could be lent. */
function ownSecrets({ keyring }: Config, places: readonly string[]): OwnSecrets {
  const secret = keyring.kind === "vault" ? parseSecretId(keyring.secret) : null;
  return { variables: behind("env:", places), vaultSecrets: secret ? [secret] : [] };
}

function behind(scheme: string, places: readonly string[]): string[] {
  return places.flatMap((place) => (place.startsWith(scheme) ? [place.slice(scheme.length)] : []));
}

function ownFiles(config: Config): string[] {
  const { database, keyring, tls } = config;
  const folder = dataFolder(config);
  const { AZURE_FEDERATED_TOKEN_FILE: token, AZURE_CLIENT_CERTIFICATE_PATH: certificate } = process.env;
  return [
    join(folder, "admin-key"),
    join(folder, "dev-tls.pem"),
    ...(database.kind === "sqlite"
      ? ["", "-wal", "-shm", "-journal", ".keyring"].map((end) => database.path + end)
      : []),
    ...(keyring.kind === "file" ? [keyring.path] : []),
    ...(tls.kind === "files" ? [tls.key] : []),
    ...[token, certificate].flatMap((path) => path ?? []),
  ];
}
