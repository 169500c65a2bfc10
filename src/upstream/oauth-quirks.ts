/** How a provider's token answers differ from RFC 6749. Data only: what it is for is read in `oauth-answer.ts`. */
export type Quirk = {
  /** Errors come with status 200. */
  errorsIn200: boolean;
  /** The provider's own error codes, as the codes of RFC 6749. */
  errors: Record<string, string>;
  scopeSeparator: string;
  /** The member that holds the person's own tokens, where the others are an app's. */
  nested: string | null;
  /** Values of `token_type` that mean a bearer token. */
  bearerTypes: string[];
};

export const NO_QUIRK: Quirk = {
  errorsIn200: false,
  errors: {},
  scopeSeparator: " ",
  nested: null,
  bearerTypes: [],
};

const QUIRKS = new Map<string, Quirk>([
  // A token without `expires_in` lives until it is revoked.
  [
    "github",
    {
      ...NO_QUIRK,
      errorsIn200: true,
      errors: {
        bad_refresh_token: "invalid_grant",
        bad_verification_code: "invalid_grant",
        incorrect_client_credentials: "invalid_client",
      },
      scopeSeparator: ",",
    },
  ],
  [
    "slack",
    {
      errorsIn200: true,
      errors: {
        invalid_code: "invalid_grant",
        code_already_used: "invalid_grant",
        invalid_refresh_token: "invalid_grant",
        token_revoked: "invalid_grant",
        token_expired: "invalid_grant",
        invalid_client_id: "invalid_client",
        bad_client_secret: "invalid_client",
        ratelimited: "temporarily_unavailable",
        service_unavailable: "temporarily_unavailable",
        internal_error: "server_error",
        fatal_error: "server_error",
      },
      scopeSeparator: ",",
      nested: "authed_user",
      bearerTypes: ["user", "bot"],
    },
  ],
]);

/** The quirk of that name; none for null and for names that the table does not hold. */
export function quirkOf(name: string | null): Quirk {
  return (name === null ? undefined : QUIRKS.get(name)) ?? NO_QUIRK;
}
