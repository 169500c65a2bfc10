import { BrokerError } from "./errors.ts";
import { isJsonObject, type Json } from "./json.ts";
import { clientSecretFault } from "./oauth-client-rules.ts";
import type { OAuthClient } from "./oauth.ts";
import { readSecretValue, type SecretReferences, type SecretValue } from "./secret-references.ts";

/** The part of an OAuth client that is secret. */
export type ClientSecrets = Pick<OAuthClient, "clientSecret" | "privateKey">;

/** The same as boxes hold it: the secret may be kept elsewhere. */
export type HeldSecrets = Pick<ClientSecrets, "privateKey"> & { clientSecret: SecretValue | null };

export const NO_SECRETS: ClientSecrets = { clientSecret: null, privateKey: null };

/** The plain text of the box of a connection, a connector or a registration. */
export function writeClientSecrets({ clientSecret, privateKey }: HeldSecrets): string {
  return JSON.stringify({ clientSecret, privateKey });
}

export function readClientSecrets(plain: string): HeldSecrets {
  const body: Json = JSON.parse(plain);
  if (!isJsonObject(body)) throw new Error("a box holds no client");
  const { clientSecret, privateKey } = body;
  return {
    clientSecret: readSecretValue(clientSecret),
    privateKey: isJsonObject(privateKey) ? privateKey : null,
  };
}

/** The client's secrets themselves. Throws `unavailable`, which names the reference that cannot be had. */
export async function usedSecrets(
  references: SecretReferences,
  project: string,
  { clientSecret: held, privateKey }: HeldSecrets,
): Promise<ClientSecrets> {
  if (held === null || typeof held === "string") return { clientSecret: held, privateKey };
  const clientSecret = await references.resolve(project, held.ref);
  const fault = clientSecretFault(clientSecret);
  if (fault === null) return { clientSecret, privateKey };
  const what = `the secret ${held.ref} is none for a client: it ${fault}`;
  throw new BrokerError("unavailable", { what, reference: held.ref, passing: true });
}
