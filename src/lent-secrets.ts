import { join } from "node:path";
import type { Config } from "./config.ts";
import type { Clock, Log } from "./core/ports.ts";
import type { SecretReferences } from "./core/secret-references.ts";
import { dataFolder } from "./first-start.ts";
import type { Vaults } from "./secrets/keyvault.ts";
import { createReferences } from "./secrets/references.ts";
import { createSecretFiles } from "./secrets/secret-files.node.ts";
import { parseSecretSources } from "./secrets/secret-sources.ts";

// Secrets that are kept elsewhere, as the operator lends them. Part of the door `node.ts`.

/** `operatorUrls`: the vaults that may be asked, to be printed at start. Throws `SecretSourcesError`. */
export function lendSecrets(
  config: Config,
  world: { vaults: Vaults; clock: Clock; log: Log },
): { references: SecretReferences; operatorUrls: { name: string; url: string }[] } {
  const sources = parseSecretSources(config.secretSources);
  const files = createSecretFiles(ownFiles(config));
  return {
    references: createReferences({ ...world, sources, files, env: process.env }),
    operatorUrls: sources.vaults.map((url) => ({ name: "CONSENTRY_SECRET_SOURCES", url })),
  };
}

/** What is in them is worth more than all that could be lent. */
function ownFiles(config: Config): string[] {
  const { database, keyring, tls } = config;
  const folder = dataFolder(config);
  const { AZURE_FEDERATED_TOKEN_FILE: token, AZURE_CLIENT_CERTIFICATE_PATH: certificate } = process.env;
  return [
    join(folder, "admin-key"),
    join(folder, "dev-tls.pem"),
    ...(database.kind === "sqlite" ? ["", "-wal", "-shm"].map((end) => database.path + end) : []),
    ...(keyring.kind === "file" ? [keyring.path] : []),
    ...(tls.kind === "files" ? [tls.key] : []),
    ...[token, certificate].flatMap((path) => path ?? []),
  ];
}
