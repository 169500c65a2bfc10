import type { ConnectionRecord, UserTokenAuth } from "./connection.ts";
import type { Context } from "./context.ts";
import { audienceFaultIn } from "./identity-source.ts";
import type { UserId } from "./ids.ts";
import type { Entra, UserToken } from "./machine-identity.ts";
import type { World } from "./ports.ts";
import { canonicalResource, resourceOf } from "./resource.ts";
import { exchangeAt } from "./user-exchange.ts";

/** Who exchanges the token of a request's person. `entra` null: the person's own issuer. */
export type UserTokenWay =
  | { ok: true; user: UserId; userToken: UserToken; entra: Entra | null }
  | { ok: false; message: string };

/**
 * How the person's token becomes one for this server, or why it does not, as far as that is known without asking anybody.
 * Looked at for every call: settings may have changed since the connection was saved, and since a token was exchanged.
 */
export function userTokenWay(
  world: Pick<World, "publicUrl" | "entra">,
  { project, user, userToken }: Context,
  { record: { connection }, auth }: { record: ConnectionRecord; auth: UserTokenAuth },
): UserTokenWay {
  if (user === null || userToken === null) return { ok: false, message: NO_USER_TOKEN };
  const { audience, idJag } = auth;
  const { target } = connection;
  const refused = audienceFaultIn(world, project, audience);
  if (refused !== null) return { ok: false, message: `its audience ${refused}` };
  if (userToken.tenant === null) {
    const resource = resourceOf(auth, canonicalResource(target));
    const fault = resource === null ? null : audienceFaultIn(world, project, resource);
    if (fault !== null) return { ok: false, message: `its resource ${fault}` };
    const found = exchangeAt(project, userToken);
    return "message" in found
      ? { ok: false, message: found.message }
      : { ok: true, user, userToken, entra: null };
  }
  if (idJag)
    return { ok: false, message: 'exchange "id-jag" is for people of another issuer than Microsoft Entra' };
  const { entra } = world;
  if (!entra) return { ok: false, message: NO_ON_BEHALF_OF };
  const fault = entra.targetFault(target, audience);
  return fault === null ? { ok: true, user, userToken, entra } : { ok: false, message: fault };
}

export const NO_USER_TOKEN =
  "calls are made as the person who calls, by exchanging that person's own token, and the request brought none: " +
  "call with the person's token (not with an application's, nor with a key alone), or pass it in x-ms-user-identity";
const NO_ON_BEHALF_OF =
  "tokens of Microsoft Entra are exchanged by nobody: the operator names an identity for onBehalfOf in CONSENTRY_AZURE";
