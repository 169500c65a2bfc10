import { readFile } from "node:fs/promises";
import { type Config, ConfigError } from "./config.ts";
import { type AzureIdentity, type AzureSettings, parseAzure } from "./config-azure.ts";
import type { Entra } from "./core/machine-identity.ts";
import type { Clock } from "./core/ports.ts";
import { createEntra } from "./secrets/entra.ts";
import type { Vouch } from "./secrets/entra-settings.ts";
import { codeOf } from "./secrets/files.node.ts";
import { createReadSecret } from "./secrets/operator-secrets.node.ts";

// Microsoft Entra on Node: its settings may be in a file, as its secrets may. Part of the door `node.ts`.

/** What to print at start: no secret, and not where one is. */
export type ShownAzure = {
  authority: string;
  identities: Record<string, string>;
  projects: string[];
  targets: string[];
};

/** Null: nothing is configured. `places`: where its secrets are, as `env:NAME` or `file:path`. Throws `ConfigError` for a file that cannot be read, and with all that is wrong in it. */
export async function openAzure(
  { azure }: Config,
  world: { clock: Clock; env: Record<string, string | undefined>; vouch: Vouch },
): Promise<{ entra: Entra; shown: ShownAzure; places: string[] } | null> {
  if (!azure) return null;
  const settings = azure.kind === "inline" ? azure.settings : await readSettings(azure.path);
  const entra = createEntra({ settings, read: createReadSecret(world.env), ...world });
  return { entra, shown: shownOf(settings), places: Object.values(settings.identities).flatMap(placesOf) };
}

async function readSettings(path: string): Promise<AzureSettings> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new ConfigError([
      { name: "CONSENTRY_AZURE", message: `names a file that cannot be read (${codeOf(error)})` },
    ]);
  });
  const read = parseAzure(text);
  if ("settings" in read) return read.settings;
  throw new ConfigError(read.faults.map((message) => ({ name: "CONSENTRY_AZURE", message })));
}

function placesOf(identity: AzureIdentity): string[] {
  switch (identity.type) {
    case "managed":
    case "federated":
      return [];
    case "workload":
      return identity.tokenFile === null ? [] : [`file:${identity.tokenFile}`];
    case "secret":
      return [identity.clientSecret];
    case "certificate":
      return [`file:${identity.certificateFile}`];
  }
}

function shownOf({ authorityHost, identities, projects, targets }: AzureSettings): ShownAzure {
  return {
    authority: authorityHost,
    identities: Object.fromEntries(
      Object.entries(identities).map(([name, { type, clientId }]) => [
        name,
        clientId === null ? type : `${type} ${clientId}`,
      ]),
    ),
    projects: Object.keys(projects),
    targets: targets.map(({ host, audience }) => `${host} ${audience}`),
  };
}
