import { SignJWT } from "jose";
import { type HttpServer, startHttpServer } from "./http-server.ts";

export type IdentityRequest = {
  /** `app-service` or `imds`, by the path. */
  source: "app-service" | "imds";
  resource: string;
  clientId: string | null;
};
export type IdentityAnswer = { status: number; body: unknown; headers?: Record<string, string> };

export type AzureIdentityEndpoint = {
  url: string;
  /** Puts the variables of App Service, or of a host with the instance metadata service, into an environment. */
  asAppService: (env: Record<string, string | undefined>) => void;
  asImds: (env: Record<string, string | undefined>) => void;
  requests: HttpServer["requests"];
  asked: IdentityRequest[];
  knobs: {
    /** The object id by the client id of a user-assigned identity. The system's own is under "". */
    identities: Record<string, string>;
    /** Answers instead. Null: it answers itself. "hang": it never does. */
    answer: (request: IdentityRequest) => IdentityAnswer | "hang" | null;
  };
  stop: () => Promise<void>;
};

/** The endpoints that Azure's hosts have for managed identities, on this machine. Their tokens are signed by nobody that is known. */
export async function startAzureIdentityEndpoint(tenant: string): Promise<AzureIdentityEndpoint> {
  const header = crypto.randomUUID();
  const asked: IdentityRequest[] = [];
  const knobs: AzureIdentityEndpoint["knobs"] = {
    identities: { "": crypto.randomUUID() },
    answer: () => null,
  };
  const server = await startHttpServer((request, response) => {
    void answer(request).then((given) => {
      if (given === "hang") return;
      response
        .writeHead(given.status, { "content-type": "application/json", ...given.headers })
        .end(typeof given.body === "string" ? given.body : JSON.stringify(given.body));
    });
  });

  async function answer({ method, path, headers }: HttpServer["requests"][number]) {
    const url = new URL(path, server.url);
    const source = url.pathname === "/msi/token" ? "app-service" : "imds";
    const isAppService =
      source === "app-service" &&
      url.searchParams.get("api-version") === "2019-08-01" &&
      headers["x-identity-header"] === header;
    const isImds =
      url.pathname.replace(/\/$/, "") === "/metadata/identity/oauth2/token" &&
      url.searchParams.get("api-version") === "2018-02-01" &&
      headers["metadata"] === "true";
    if (method !== "GET" || !(isAppService || isImds)) return { status: 403, body: { error: "forbidden" } };
    const resource = url.searchParams.get("resource") ?? "";
    const clientId = url.searchParams.get("client_id");
    const request: IdentityRequest = { source, resource, clientId };
    asked.push(request);
    return knobs.answer(request) ?? given(request);
  }

  async function given({ resource, clientId }: IdentityRequest): Promise<IdentityAnswer> {
    const oid = knobs.identities[clientId ?? ""];
    if (oid === undefined)
      return { status: 400, body: { error: "invalid_request", error_description: "Identity not found" } };
    const now = Math.floor(Date.now() / 1000);
    const token = await new SignJWT({
      tid: tenant,
      oid,
      sub: oid,
      appid: clientId ?? `system-${oid}`,
      aud: resource,
    })
      .setProtectedHeader({ alg: "HS256" })
      .setIssuer(`https://sts.windows.net/${tenant}/`)
      .setExpirationTime(now + 3600)
      .sign(new Uint8Array(32));
    const numbers = { expires_in: "3600", expires_on: String(now + 3600) };
    return { status: 200, body: { access_token: token, resource, token_type: "Bearer", ...numbers } };
  }

  return {
    url: server.url,
    asAppService: (env) => {
      env["IDENTITY_ENDPOINT"] = `${server.url}/msi/token`;
      env["IDENTITY_HEADER"] = header;
    },
    asImds: (env) => {
      env["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = server.url;
    },
    requests: server.requests,
    asked,
    knobs,
    stop: server.stop,
  };
}
