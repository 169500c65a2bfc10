import { parseSecretId, type SecretId } from "./secret-ids.ts";

/** Where a reference leads. */
export type Place =
  | { kind: "keyvault"; secret: SecretId }
  | { kind: "env"; name: string }
  | { kind: "file"; path: string };

/**
 * Reads `keyvault:https://{vault}/secrets/{name}[/{version}]`, `env:{NAME}` or `file:{absolute path}`. A path is one that has
 * nothing to resolve: no `.`, no `..`, no empty step. Null: it is none.
 */
export function parsePlace(ref: string): Place | null {
  if (ref.length > MAX_REF_CHARS) return null;
  const [, kind, rest = ""] = /^(keyvault|env|file):(.+)$/s.exec(ref) ?? [];
  switch (kind) {
    case "keyvault": {
      const secret = rest.startsWith("https://") ? parseSecretId(rest) : null;
      // Key Vault takes the names of secrets in any case.
      return secret && { kind, secret: { ...secret, name: secret.name.toLowerCase() } };
    }
    case "env":
      return ENV_NAME.test(rest) ? { kind, name: rest } : null;
    case "file":
      return isPlainPath(rest) ? { kind, path: rest } : null;
    default:
      return null;
  }
}

export const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

export function isPlainPath(path: string): boolean {
  const [root, ...steps] = path.split("/");
  const isPlain = (step: string) => step !== "" && step !== "." && step !== ".." && !/[\p{Cc}\\]/u.test(step);
  return root === "" && steps.length > 0 && steps.every(isPlain);
}

/**
 * The broker's own secrets, and those that its identity and its database stand on, are never anybody else's. Azure's App Service
 * gives every setting twice, the second time behind `APPSETTING_`.
 */
export function isNeverLent(envName: string): boolean {
  return /^(APPSETTING_)?(CONSENTRY_|AZURE_CLIENT_|AZURE_PASSWORD$|IDENTITY_|MSI_|PGPASSWORD$)/i.test(
    envName,
  );
}

const MAX_REF_CHARS = 2_048;
