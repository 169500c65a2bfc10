import { type ConnectionAuth, NO_OVERRIDES, type OAuthOverrides } from "../connection.ts";

/** What the audit says of a connection that departs from the specification: every override, and why. */
export function overrideFacts(auth: ConnectionAuth): Record<string, string> {
  switch (auth.kind) {
    case "oauth":
      return factsOf(auth.overrides);
    case "user_token":
    case "client_credentials": {
      const { resource, overrideReason: reason } = auth;
      return factsOf({ ...NO_OVERRIDES, resource, reason });
    }
    case "none":
    case "key":
    case "identity":
      return {};
  }
}

export function factsOf(overrides: OAuthOverrides): Record<string, string> {
  const named = namesOf(overrides);
  if (named.length === 0) return {};
  return { overrides: named.join(", "), overrideReason: overrides.reason ?? "" };
}

/** Each override that is not the default, as `name=value`. */
export function namesOf({ resource, refreshScope, pkce }: OAuthOverrides): string[] {
  return [
    ...(resource === "prm" ? [] : [`resource=${typeof resource === "object" ? resource.value : resource}`]),
    ...(refreshScope === "granted" ? [] : [`refreshScope=${refreshScope}`]),
    ...(pkce === "strict" ? [] : [`pkce=${pkce}`]),
  ];
}
