/** A secret of an Azure Key Vault. `vault`: an https origin. `version` null: whichever is the newest. */
export type SecretId = { vault: string; name: string; version: string | null };

/**
 * Reads Azure's secret identifier, `https://{vault}/secrets/{name}[/{version}]`, or `@Microsoft.KeyVault(SecretUri=…)` around
 * one, as Azure's app settings write it. Null: it is none.
 */
export function parseSecretId(text: string): SecretId | null {
  const url = /^@Microsoft\.KeyVault\(SecretUri=(.*)\)$/i.exec(text)?.[1] ?? text;
  const [, origin, name, version] = SECRET_ID.exec(url) ?? [];
  if (origin === undefined || name === undefined) return null;
  const vault = URL.parse(origin)?.origin;
  return vault === undefined ? null : { vault, name, version: version?.toLowerCase() ?? null };
}

/** As Azure writes it; without a version, for those who read them all. */
export function writeSecretId({ vault, name, version }: SecretId): string {
  return `${vault}/secrets/${name}${version === null ? "" : `/${version}`}`;
}

/** Names have 1 to 127 letters, digits and hyphens, versions 32 hex digits. */
const SECRET_ID = /^(https:\/\/[^/?#@\\\s]+)\/secrets\/([0-9A-Za-z-]{1,127})(?:\/([0-9A-Fa-f]{32})?)?$/;
