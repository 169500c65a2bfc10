import { createHash } from "node:crypto";

type Code = { oid: string; clientId: string; redirectUri: string; challenge: string };

/**
 * The code flow of the Microsoft identity platform, as its v2 endpoints have it: PKCE with S256 although the metadata do not say
 * so, nobody registers by himself, refresh tokens rotate, and `resource` is no parameter of theirs. Whoever comes is signed in.
 */
export function createAzureCodes() {
  const codes = new Map<string, Code>();
  const refreshTokens = new Map<string, { oid: string; clientId: string }>();

  function refreshed(oid: string, clientId: string) {
    const refreshToken = crypto.randomUUID();
    refreshTokens.set(refreshToken, { oid, clientId });
    return { oid, refreshToken };
  }

  return {
    /** Where the browser goes next. */
    authorize: (params: URLSearchParams, { oid }: { oid: string }): string => {
      const text = (name: string) => params.get(name) ?? "";
      const back = new URL(text("redirect_uri"));
      const state = text("state");
      if (params.has("resource") || text("code_challenge_method") !== "S256") {
        back.search = String(new URLSearchParams({ error: "invalid_request", state }));
        return back.href;
      }
      const code = crypto.randomUUID();
      codes.set(code, {
        oid,
        clientId: text("client_id"),
        redirectUri: text("redirect_uri"),
        challenge: text("code_challenge"),
      });
      back.search = String(new URLSearchParams({ code, state }));
      return back.href;
    },
    /** The person of a code or a refresh token, each good once. Null: it is none, or not this client's. */
    redeem: (form: URLSearchParams): { oid: string; refreshToken: string } | "wrong_resource" | null => {
      const text = (name: string) => form.get(name) ?? "";
      if (form.has("resource")) return "wrong_resource";
      if (text("grant_type") === "refresh_token") {
        const held = refreshTokens.get(text("refresh_token"));
        refreshTokens.delete(text("refresh_token"));
        // A refresh without scopes would be for another resource.
        if (!held || held.clientId !== text("client_id") || !form.has("scope")) return null;
        return refreshed(held.oid, held.clientId);
      }
      const code = codes.get(text("code"));
      codes.delete(text("code"));
      const challenge = createHash("sha256").update(text("code_verifier")).digest("base64url");
      const isRight =
        code?.clientId === text("client_id") &&
        code.redirectUri === text("redirect_uri") &&
        code.challenge === challenge;
      return code && isRight ? refreshed(code.oid, code.clientId) : null;
    },
  };
}
