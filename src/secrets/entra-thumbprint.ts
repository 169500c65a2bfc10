import { SecretError } from "./entra-minting.ts";

/** SHA-256 of the first certificate of a PEM file, in hex: how Entra finds the certificate that a client signed with. */
export async function thumbprintOf(pem: string): Promise<string> {
  const [, base64] =
    /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/.exec(pem) ?? [];
  if (base64 === undefined) throw new SecretError("certificateFile holds no certificate in PEM");
  const der = Uint8Array.from(atob(base64.replace(/\s/g, "")), (char) => char.charCodeAt(0));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", der));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0"))
    .join("")
    .toUpperCase();
}
