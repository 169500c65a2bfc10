import { type HttpServer, startHttpServer } from "./http-server.ts";

export const PROVIDER_NAMES = ["github", "slack", "google", "atlassian", "notion", "entra"] as const;
export type ProviderName = (typeof PROVIDER_NAMES)[number];

/** What a token request brings, however it was written. */
type Asked = {
  params: Record<string, string>;
  json: boolean;
  basic: boolean;
  headers: Record<string, unknown>;
};
type Answer = { status: number; body: unknown };

/** A provider's ways, as its documents tell them: what its pages ask for, and how its token endpoint answers. */
type Ways = {
  /** Why the page does not let the person go on; null: it does. */
  page: (query: URLSearchParams) => string | null;
  /** Why a token request is not even looked at; null: it is. */
  form: (asked: Asked) => Answer | null;
  tokens: (made: Made) => unknown;
  /** For a code or refresh token that is not good. */
  refused: (grantType: string) => Answer;
};
type Made = { access: string; refresh: string; scope: string; grantType: string };

export type TestProvider = {
  authorizationEndpoint: string;
  tokenEndpoint: string;
  requests: HttpServer["requests"];
  /** A person who allows. Gives the callback; throws with the page's reason when it does not let them go on. */
  allow: (authorizationUrl: string) => URL;
  stop: () => Promise<void>;
};

export const APP = { id: "7d1c-app_1.0", secret: "secret_a-b.c" };

/** Imitates a provider that cannot be had here. `APP` is its client; nothing is decoded. */
export async function startProvider(name: ProviderName): Promise<TestProvider> {
  const ways = WAYS[name];
  const good = new Set<string>();
  let scope = "";
  let count = 0;
  const server = await startHttpServer(({ headers, body }, response) => {
    const asked = read(headers, body);
    const { status, body: answer } = answerTo(asked);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
  });

  function answerTo(asked: Asked): Answer {
    const { grant_type: grantType = "", code, refresh_token: refresh } = asked.params;
    const misplaced = ways.form(asked);
    if (misplaced) return misplaced;
    if (!good.delete((grantType === "refresh_token" ? refresh : code) ?? "")) return ways.refused(grantType);
    const made = { access: `access-${++count}`, refresh: `refresh-${count}`, scope, grantType };
    good.add(made.refresh);
    return { status: 200, body: ways.tokens(made) };
  }

  return {
    authorizationEndpoint: `${server.url}/authorize`,
    tokenEndpoint: `${server.url}/token`,
    requests: server.requests,
    allow: (authorizationUrl) => {
      const { searchParams: query } = new URL(authorizationUrl);
      const why = ways.page(query);
      if (why !== null) throw new Error(`the page says: ${why}`);
      scope = query.get("user_scope") ?? query.get("scope") ?? "";
      const code = `code-${++count}`;
      good.add(code);
      const callback = new URL(query.get("redirect_uri") ?? "");
      callback.search = new URLSearchParams({ code, state: query.get("state") ?? "" }).toString();
      return callback;
    },
    stop: server.stop,
  };
}

const WAYS: Record<ProviderName, Ways> = {
  github: {
    page: () => null,
    form: ({ headers }) =>
      headers["accept"] === "application/json" ? null : { status: 200, body: "access_token=as-a-form" },
    tokens: ({ access, scope, refresh, grantType }) => ({
      access_token: access,
      token_type: "bearer",
      scope: scope.replaceAll(" ", ","),
      // Tokens of an OAuth app do not end, those of a GitHub app do.
      ...((grantType === "refresh_token" || scope === "") && { expires_in: 28_800, refresh_token: refresh }),
    }),
    refused: (grantType) => ({
      status: 200,
      body: {
        error: grantType === "refresh_token" ? "bad_refresh_token" : "bad_verification_code",
        error_description: "It is incorrect or expired.",
        error_uri: "https://docs.example/errors",
      },
    }),
  },
  slack: {
    page: (query) => (query.has("user_scope") && !query.has("scope") ? null : "no bot scopes for this app"),
    form: () => null,
    tokens: ({ access, refresh, scope, grantType }) => {
      const own = {
        access_token: access,
        token_type: "user",
        scope,
        expires_in: 43_200,
        refresh_token: refresh,
      };
      if (grantType === "refresh_token") return { ok: true, ...own };
      const bot = { access_token: "xoxb-of-the-app", token_type: "bot", scope: "commands" };
      return { ok: true, app_id: "A1", authed_user: { id: "U1", ...own }, team: { id: "T1" }, ...bot };
    },
    refused: (grantType) => ({
      status: 200,
      body: { ok: false, error: grantType === "refresh_token" ? "invalid_refresh_token" : "invalid_code" },
    }),
  },
  google: {
    page: (query) =>
      query.get("access_type") === "offline" && query.get("prompt") === "consent" ? null : "no refresh token",
    form: () => null,
    // A refresh keeps its refresh token and does not repeat it.
    tokens: ({ access, refresh, scope, grantType }) => ({
      access_token: access,
      expires_in: 3_599,
      scope,
      token_type: "Bearer",
      ...(grantType === "authorization_code" && {
        refresh_token: refresh,
        refresh_token_expires_in: 604_799,
      }),
    }),
    refused: () => ({
      status: 400,
      body: { error: "invalid_grant", error_description: "Token has been expired or revoked." },
    }),
  },
  atlassian: {
    page: (query) => {
      if (query.get("audience") !== "api.atlassian.com" || query.get("prompt") !== "consent")
        return "audience";
      return query.get("scope")?.split(" ").includes("offline_access") ? null : "no refresh token";
    },
    form: () => null,
    tokens: ({ access, refresh, scope }) => ({
      access_token: access,
      refresh_token: refresh,
      expires_in: 3_600,
      scope,
    }),
    refused: (grantType) =>
      grantType === "refresh_token"
        ? {
            status: 403,
            body: { error: "unauthorized_client", error_description: "refresh_token is invalid" },
          }
        : { status: 403, body: { error: "invalid_grant", error_description: "Invalid authorization code" } },
  },
  notion: {
    page: (query) => (query.get("owner") === "user" ? null : "owner must be user"),
    form: ({ json, basic, headers }) => {
      if (!json || !headers["notion-version"]) return { status: 400, body: notionError("invalid_request") };
      return basic ? null : { status: 401, body: notionError("unauthorized") };
    },
    tokens: ({ access, refresh, grantType }) => ({
      access_token: access,
      ...(grantType === "refresh_token" && { token_type: "bearer" }),
      refresh_token: refresh,
      bot_id: "b",
      owner: { type: "user" },
      workspace_icon: null,
      duplicated_template_id: null,
    }),
    refused: () => ({ status: 400, body: notionError("invalid_grant") }),
  },
  entra: {
    page: (query) => (query.has("resource") ? "AADSTS9010010" : null),
    form: ({ params }) => {
      if (params["resource"] !== undefined) return entraError("invalid_target", "AADSTS9010010");
      const refreshes = params["grant_type"] === "refresh_token";
      return refreshes && params["scope"] === undefined ? entraError("invalid_request", "AADSTS90009") : null;
    },
    tokens: ({ access, refresh, scope }) => ({
      token_type: "Bearer",
      scope,
      expires_in: 4_011,
      ext_expires_in: 4_011,
      access_token: access,
      refresh_token: refresh,
    }),
    refused: (grantType) =>
      grantType === "refresh_token"
        ? entraError("interaction_required", "AADSTS50076")
        : entraError("invalid_grant", "AADSTS70008"),
  },
};

function entraError(error: string, code: string): Answer {
  const numbers = [Number(code.replace("AADSTS", ""))];
  return { status: 400, body: { error, error_description: `${code}: no.`, error_codes: numbers } };
}

const notionError = (code: string) => ({ object: "error", status: 400, code, message: "It is no good." });

function read(headers: HttpServer["requests"][number]["headers"], body: string): Asked {
  const json = headers["content-type"] === "application/json";
  const given = json
    ? (JSON.parse(body) as Record<string, string>)
    : Object.fromEntries(new URLSearchParams(body));
  const basic =
    headers.authorization === `Basic ${Buffer.from(`${APP.id}:${APP.secret}`).toString("base64")}`;
  return { params: given, json, basic, headers };
}
