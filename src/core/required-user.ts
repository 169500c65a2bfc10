import type { AccessDesk } from "./access.ts";
import type { ConnectionAuth } from "./connection.ts";
import type { Context } from "./context.ts";
import { BrokerError, invalid } from "./errors.ts";
import type { TurnRequest } from "./request.ts";
import type { Server } from "./servers.ts";
import { NO_USER_TOKEN } from "./user-token-way.ts";

/**
 * A connection that acts for a person needs to know for whom, and one that exchanges the person's token needs that, before
 * anything runs (DESIGN 5). Throws `invalid`.
 */
export function requireUser(
  { user, userToken, caller }: Context,
  servers: Server[],
  named: Pick<TurnRequest, "safetyIdentifier" | "user">,
): void {
  const exchanging = namesOf(servers, "user_token");
  if (exchanging.length > 0 && (user === null || userToken === null)) {
    throw invalid({ param: "x-ms-user-identity", message: `${exchanging.join(", ")}: ${NO_USER_TOKEN}` });
  }
  const names = namesOf(servers, "oauth");
  if (user !== null || names.length === 0) return;
  const mayAssert = caller.rights.includes("act_for_users");
  const isNamed = named.safetyIdentifier !== null || named.user !== null;
  const why =
    isNamed && !mayAssert
      ? 'the body names one, but this key lacks the right act_for_users: use a key with "rights": ["act_for_users"]'
      : `the request names none: send x-ms-user-identity, or safety_identifier or user in the body${mayAssert ? "" : ', with a key with "rights": ["act_for_users"]'}`;
  const message = `${names.join(", ")}: calls are made with the account of a user, and ${why}`;
  throw invalid({ param: "safety_identifier", message });
}

/**
 * Where the person's issuer wants more of the sign-in than it saw (multi-factor authentication, a device), the person's client
 * is told, and can come again with it; in the middle of an answer it would be too late. Throws `claims_required`.
 */
export async function requireSignIn(access: AccessDesk, context: Context, servers: Server[]): Promise<void> {
  const exchanging = servers.filter(({ record }) => record?.connection.auth.kind === "user_token");
  const doors = await Promise.all(exchanging.map((server) => access.open(context, server)));
  for (const door of doors) {
    if (!door.ok && door.failure.kind === "claims")
      throw new BrokerError("claims_required", { claims: door.failure.claims });
  }
}

function namesOf(servers: Server[], kind: ConnectionAuth["kind"]): string[] {
  const names = servers.flatMap(({ record }) =>
    record?.connection.auth.kind === kind ? [record.connection.name] : [],
  );
  return [...new Set(names)];
}
