import tls from "node:tls";
import { exportJWK, generateKeyPair, jwtVerify, type JWTPayload, SignJWT } from "jose";
import { createAzureCodes } from "./azure-codes.ts";
import { selfSigned } from "./certificate.ts";
import { type HttpServer, startHttpServer } from "./http-server.ts";

/** A token request as the authority read it. */
export type TokenRequest = { tenant: string; form: URLSearchParams };
export type TokenAnswer = { status: number; body: Record<string, unknown>; headers?: Record<string, string> };

/** An app registration. What proves it: its secret, or an assertion that it takes. */
export type AppRegistration = {
  oid: string;
  secret?: string;
  /** Whether this `client_assertion` is the app's: a federated credential, or one signed with its certificate. */
  takes?: (assertion: string) => boolean | Promise<boolean>;
  /** What tokens for it are called: an on-behalf-of exchange takes only those. */
  audiences?: string[];
};

export type AzureAuthority = {
  /** `https://localhost:port`, for `authorityHost`. */
  url: string;
  /** The certificate that it must be trusted by; `trust` does that for this process. */
  cert: string;
  /** The certificate's key, for another server that is trusted as this one is. */
  key: string;
  trust: () => void;
  apps: Map<string, AppRegistration>;
  /** Every token request, in order. */
  tokens: TokenRequest[];
  requests: HttpServer["requests"];
  knobs: {
    /** Who is signed in at the browsers that come to the authorization endpoint. */
    person: { oid: string };
    /** Answers instead of the authority. Null: it answers itself. */
    answer: (request: TokenRequest) => TokenAnswer | null | Promise<TokenAnswer | null>;
    lifeSeconds: number;
  };
  /** A token that this authority signs, as it is given: `iss` and `tid` are of the tenant unless they are among `claims`. */
  sign: (
    tenant: string,
    claims: JWTPayload,
    header?: { typ?: string; kid?: string; alg?: string },
  ) => Promise<string>;
  /** The claims of a token of its own. Rejects for any other. */
  verify: (token: string) => Promise<JWTPayload>;
  /** A new signing key; the old one is no longer published. */
  rotate: () => Promise<void>;
  stop: () => Promise<void>;
};

/**
 * An authority that speaks the Microsoft identity platform as far as the real `@azure/*` packages ask: metadata and keys of any
 * tenant, client credentials by secret and by assertion, `fmi_path`, on-behalf-of, and the code flow with refresh. No Azure is near; it is https on this machine.
 */
export async function startAzureAuthority(): Promise<AzureAuthority> {
  const certificate = selfSigned("localhost");
  let signing = await makeKey();
  const apps: AzureAuthority["apps"] = new Map();
  const tokens: TokenRequest[] = [];
  const knobs: AzureAuthority["knobs"] = {
    person: { oid: crypto.randomUUID() },
    answer: () => null,
    lifeSeconds: 3600,
  };
  const codes = createAzureCodes();
  const server = await startHttpServer((request, response) => {
    const { pathname, searchParams } = new URL(request.path, server.url);
    if (request.method === "GET" && pathname.endsWith("/oauth2/v2.0/authorize")) {
      const location = codes.authorize(searchParams, knobs.person);
      return void response.writeHead(302, { location }).end();
    }
    void answer(request).then(({ status, body, headers = {} }) =>
      response
        .writeHead(status, { "content-type": "application/json", ...headers })
        .end(JSON.stringify(body)),
    );
  }, certificate);
  const url = server.url.replace("127.0.0.1", "localhost");

  async function answer({ method, path, body }: HttpServer["requests"][number]): Promise<TokenAnswer> {
    const { pathname } = new URL(path, url);
    const [, tenant = "", ...rest] = pathname.split("/");
    switch (`${method} ${rest.join("/")}`) {
      case "GET v2.0/.well-known/openid-configuration":
        return { status: 200, body: metadata(tenant) };
      case "GET discovery/v2.0/keys":
        return { status: 200, body: { keys: [signing.jwk] } };
      case "POST oauth2/v2.0/token": {
        const asked = { tenant, form: new URLSearchParams(body) };
        tokens.push(asked);
        return (await knobs.answer(asked)) ?? grant(asked);
      }
      default:
        return { status: 404, body: {} };
    }
  }

  function metadata(tenant: string) {
    return {
      issuer: `${url}/${tenant}/v2.0`,
      authorization_endpoint: `${url}/${tenant}/oauth2/v2.0/authorize`,
      token_endpoint: `${url}/${tenant}/oauth2/v2.0/token`,
      jwks_uri: `${url}/${tenant}/discovery/v2.0/keys`,
      response_types_supported: ["code"],
      subject_types_supported: ["pairwise"],
      id_token_signing_alg_values_supported: ["RS256"],
    };
  }

  async function grant({ tenant, form }: TokenRequest): Promise<TokenAnswer> {
    const clientId = form.get("client_id") ?? "";
    const app = apps.get(clientId);
    const assertion = form.get("client_assertion");
    const isProven =
      app !== undefined &&
      (assertion === null
        ? app.secret !== undefined && form.get("client_secret") === app.secret
        : await app.takes?.(assertion));
    if (!app || !isProven) return refused("invalid_client", 7000215, "The client is not who it says it is.");
    const audience = audienceOf(form.get("scope") ?? "");
    const fmiPath = form.get("fmi_path");
    const mine = { tid: tenant, azp: clientId, appid: clientId, aud: audience, ver: "2.0" };
    if (form.get("grant_type") === "client_credentials") {
      const subject = fmiPath === null ? app.oid : `/eid1/c/pub/t/${tenant}/a/${clientId}/${fmiPath}`;
      return given(await sign(tenant, { ...mine, sub: subject, oid: app.oid, idtyp: "app" }));
    }
    const person = codes.redeem(form);
    if (person === "wrong_resource")
      return refused("invalid_target", 9010010, "The resource does not match the scope.");
    if (person) {
      const { oid, refreshToken } = person;
      return given(await sign(tenant, { ...mine, sub: oid, oid, scp: "user_impersonation" }), refreshToken);
    }
    if (form.get("requested_token_use") !== "on_behalf_of")
      return refused("unsupported_grant_type", 70003, "This grant is not known here.");
    const user = await verify(form.get("assertion") ?? "").catch(() => null);
    const isMine = user && [clientId, ...(app.audiences ?? [])].includes(String(user.aud));
    if (!isMine || user["tid"] !== tenant)
      return refused("invalid_grant", 50013, "The assertion is not for this application.");
    const { oid, sub } = user;
    return given(await sign(tenant, { ...mine, sub: String(sub), oid, scp: "user_impersonation" }));
  }

  const given = (token: string, refreshToken?: string): TokenAnswer => ({
    status: 200,
    body: {
      token_type: "Bearer",
      expires_in: knobs.lifeSeconds,
      ext_expires_in: knobs.lifeSeconds,
      access_token: token,
      ...(refreshToken !== undefined && { refresh_token: refreshToken }),
    },
  });

  const sign: AzureAuthority["sign"] = async (tenant, claims, header = {}) => {
    const now = Math.floor(Date.now() / 1000);
    const base = {
      iss: `${url}/${tenant}/v2.0`,
      tid: tenant,
      uti: crypto.randomUUID(),
      iat: now,
      nbf: now,
      exp: now + knobs.lifeSeconds,
    };
    return new SignJWT({ ...base, ...claims })
      .setProtectedHeader({ alg: "RS256", typ: "JWT", kid: signing.jwk.kid, ...header })
      .sign(signing.privateKey);
  };
  const verify: AzureAuthority["verify"] = async (token) =>
    (await jwtVerify(token, signing.publicKey)).payload;

  return {
    url,
    ...certificate,
    trust: () => tls.setDefaultCACertificates([...tls.getCACertificates("default"), certificate.cert]),
    apps,
    tokens,
    requests: server.requests,
    knobs,
    sign,
    verify,
    rotate: async () => {
      signing = await makeKey();
    },
    stop: server.stop,
  };
}

/** An error as Entra writes it. */
export function refused(error: string, code: number, message: string, more: object = {}): TokenAnswer {
  const description = `AADSTS${code}: ${message} Trace ID: 0 Correlation ID: 0 Timestamp: 2026-01-01 00:00:00Z`;
  const body = { error, error_description: description, error_codes: [code], ...more };
  return { status: error === "invalid_client" ? 401 : 400, body };
}

/** `api://x/.default` and `api://x/read` are scopes of `api://x`. */
function audienceOf(scope: string): string {
  const first = scope.split(" ").find((word) => word.includes("/")) ?? scope;
  return first.slice(0, first.lastIndexOf("/"));
}

async function makeKey() {
  const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: crypto.randomUUID(), alg: "RS256", use: "sig" };
  return { privateKey, publicKey, jwk };
}
