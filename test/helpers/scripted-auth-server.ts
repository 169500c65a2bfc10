import type { ServerResponse } from "node:http";
import { beginAuthorization, visit } from "./people.ts";
import { startHttpServer } from "./http-server.ts";

export type ScriptedAuthServer = {
  issuer: string;
  /** To be changed at any time. */
  knobs: {
    /** Edits the metadata on their way out. */
    metadata: (document: Record<string, unknown>) => Record<string, unknown>;
    /** When secrets of clients that register end, in seconds since the epoch. 0: never. */
    secretExpiresAt: number;
    /** Before a registration is answered. */
    beforeRegistration: () => Promise<void> | void;
    /** HTTP status of registrations. */
    registration: 201 | 400 | 503;
    /** Before a refresh is answered: gives the error that it meets, or null. */
    refresh: (clientId: string) => Promise<string | null> | string | null;
  };
  /** How many clients were asked for. */
  registrations: () => number;
  /** How often the metadata were read. */
  metadataReads: () => number;
  /** For `startProtectedServer`: a token is good, for the account in its name. */
  introspect: (token: string) => Promise<{ active: boolean } & Record<string, unknown>>;
  /** The person of the link allows, and comes back with a code of this account. */
  allow: (link: string, account: string) => Promise<string>;
  stop: () => Promise<void>;
};

/** An authorization server that registers every client and says to each what a test wants. Tokens are for any audience. */
export async function startScriptedAuthServer(): Promise<ScriptedAuthServer> {
  const counts = { registrations: 0, metadata: 0, tokens: 0 };
  const knobs: ScriptedAuthServer["knobs"] = {
    metadata: (document) => document,
    secretExpiresAt: 0,
    beforeRegistration: () => {},
    registration: 201,
    refresh: () => null,
  };
  const answer = (response: ServerResponse, status: number, body: unknown) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));

  async function token(form: URLSearchParams, response: ServerResponse): Promise<void> {
    const refreshed = form.get("refresh_token");
    const error = refreshed === null ? null : await knobs.refresh(form.get("client_id") ?? "");
    if (error !== null) return void answer(response, 400, { error });
    const account = refreshed ?? form.get("code");
    answer(response, 200, {
      access_token: `${account}-${++counts.tokens}`,
      refresh_token: account,
      token_type: "bearer",
      expires_in: 3600,
    });
  }

  async function register(response: ServerResponse): Promise<void> {
    const id = `client-${++counts.registrations}`;
    await knobs.beforeRegistration();
    answer(response, knobs.registration, {
      ...(knobs.registration !== 201 && { error: "invalid_client_metadata" }),
      client_id: id,
      client_secret: "a secret of this client alone",
      client_secret_expires_at: knobs.secretExpiresAt,
      token_endpoint_auth_method: "client_secret_post",
    });
  }

  const server = await startHttpServer(({ path, body }, response) => {
    const issuer = server.url;
    switch (path) {
      case "/.well-known/oauth-authorization-server":
        counts.metadata++;
        return void answer(
          response,
          200,
          knobs.metadata({
            issuer,
            authorization_endpoint: `${issuer}/authorize`,
            token_endpoint: `${issuer}/token`,
            registration_endpoint: `${issuer}/register`,
            response_types_supported: ["code"],
            code_challenge_methods_supported: ["S256"],
            token_endpoint_auth_methods_supported: ["client_secret_post"],
          }),
        );
      case "/register":
        return void register(response);
      case "/token":
        return void token(new URLSearchParams(body), response);
      default:
        response.writeHead(404).end();
    }
  });

  return {
    issuer: server.url,
    knobs,
    registrations: () => counts.registrations,
    metadataReads: () => counts.metadata,
    introspect: async (given) => ({ active: true, sub: given.split("-")[0] ?? "", scope: "read write" }),
    allow: async (link, account) => {
      const { cookie, authorizationUrl } = await beginAuthorization(link);
      const { searchParams } = authorizationUrl;
      const back = new URL(searchParams.get("redirect_uri") ?? "");
      back.search = String(new URLSearchParams({ code: account, state: searchParams.get("state") ?? "" }));
      return (await visit(back, cookie)).text;
    },
    stop: server.stop,
  };
}
