import * as z from "zod";
import type { Presentation, Presented } from "../../core/administration/whoami.ts";
import { authTypeOf, AUTH_TYPES } from "../../core/connection-auth-rules.ts";
import type { Context } from "../../core/context.ts";
import { RIGHTS, ROLES } from "../../core/identity.ts";
import { listOf, name, pageQuery, strictQuery } from "./common.ts";

export const whoamiQuery = strictQuery({
  ...pageQuery.shape,
  /** As this agent of the project's. */
  agent: name.optional(),
  /** This connection alone. */
  connection: name.optional(),
});

/** What a server can give roles to. Null: the issuer knows no such thing, or nothing tells yet. */
export const principalBody = z.object({
  issuer: z.string(),
  subject: z.string().nullable(),
  clientId: z.string().nullable(),
  tenant: z.string().nullable(),
});

const presents = z.object({
  kind: z.enum(["nobody", "key", "account", "identity", "person", "client"]),
  headerNames: z.array(z.string()).optional(),
  user: z.string().nullable().optional(),
  status: z.enum(["active", "needs_consent", "revoked", "none"]).optional(),
  of: z.enum(["project", "agent"]).optional(),
  audience: z.string().optional(),
  principal: principalBody.nullable().optional(),
  clientId: z.string().optional(),
  issuer: z.string().optional(),
});

const presentation = z.object({
  connection: z.string(),
  authType: z.enum(AUTH_TYPES),
  presents,
  /** Why nothing would be called now. Null: nothing stands in the way on this side. */
  fault: z.string().nullable(),
});

const callerBody = z.object({
  principal: z.string(),
  name: z.string(),
  /** Null: an operator's. */
  project: z.string().nullable(),
  roles: z.array(z.enum(ROLES)),
  rights: z.array(z.enum(RIGHTS)),
  user: z.string().nullable(),
  /** Whether the request came with a token of the user's own. */
  userToken: z.boolean(),
});

export const whoamiBody = listOf(presentation).extend({ caller: callerBody });

export function writePresentation({
  connection,
  presents: shown,
  fault,
}: Presentation): z.infer<typeof presentation> {
  return {
    connection: connection.name,
    authType: authTypeOf(connection.auth),
    presents: written(shown),
    fault,
  };
}

function written(shown: Presented): z.infer<typeof presents> {
  return { ...shown };
}

export function writeCaller({ caller, user, userToken }: Context): z.infer<typeof callerBody> {
  const { principal, name: called, project, roles, rights } = caller;
  return {
    principal,
    name: called,
    project,
    roles: [...roles],
    rights: [...rights],
    user,
    userToken: userToken !== null,
  };
}
