import { isJsonObject, type Json } from "./json.ts";
import type { OAuthClient } from "./oauth.ts";

/** The part of an OAuth client that is secret, as boxes hold it. */
export type ClientSecrets = Pick<OAuthClient, "clientSecret" | "privateKey">;

export const NO_SECRETS: ClientSecrets = { clientSecret: null, privateKey: null };

/** The plain text of the box of a connection, a connector or a registration. */
export function writeClientSecrets({ clientSecret, privateKey }: ClientSecrets): string {
  return JSON.stringify({ clientSecret, privateKey });
}

export function readClientSecrets(plain: string): ClientSecrets {
  const body: Json = JSON.parse(plain);
  if (!isJsonObject(body)) throw new Error("a box holds no client");
  const { clientSecret, privateKey } = body;
  return {
    clientSecret: typeof clientSecret === "string" ? clientSecret : null,
    privateKey: isJsonObject(privateKey) ? privateKey : null,
  };
}
