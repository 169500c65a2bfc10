import * as z from "zod";
import type { ClientDocument } from "../../core/consent-views.ts";
import { hasRealm, WITHOUT_REALM } from "../../core/identity.ts";
import { writeMoment } from "./common.ts";
import { bodyOf } from "./shape.ts";

const userName = z
  .string()
  .min(1)
  .max(256)
  .refine((name) => !hasRealm(name), WITHOUT_REALM);

/** The runtime's word on who sits at a browser (DESIGN 6, proof `runtime`). */
export const confirmBody = bodyOf(z.object({ code: z.string().min(1).max(200), user: userName }));

export const confirmAnswer = z.object({ continue_url: z.string() });

/** `user` left out: the one whose own token the request came with. */
export const meLinkBody = bodyOf(z.object({ user: userName.nullish() }));

export const meLinkAnswer = z.object({ url: z.string(), expiresAt: z.string() });

export function writeMeLink(link: { url: string; expiresAt: number }): z.infer<typeof meLinkAnswer> {
  return { url: link.url, expiresAt: writeMoment(link.expiresAt) };
}

/** draft-ietf-oauth-client-id-metadata-document; the names are RFC 7591's and OpenID Connect Registration's. */
export const clientDocumentBody = z.object({
  client_id: z.string(),
  client_name: z.string(),
  client_uri: z.string(),
  redirect_uris: z.array(z.string()),
  grant_types: z.array(z.string()),
  response_types: z.array(z.string()),
  token_endpoint_auth_method: z.literal("none"),
  application_type: z.enum(["web", "native"]),
});

/** OpenID Connect Registration, 2: a native client has http on loopback; https is a web client's, on loopback too. */
export function writeClientDocument({
  clientId,
  clientName,
  clientUri,
  redirectUris,
}: ClientDocument): z.infer<typeof clientDocumentBody> {
  return {
    client_id: clientId,
    client_name: clientName,
    client_uri: clientUri,
    redirect_uris: redirectUris,
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
    application_type: redirectUris.every((uri) => uri.startsWith("https:")) ? "web" : "native",
  };
}
