import { randomBytes } from "node:crypto";
import tls from "node:tls";
import type { AzureAuthority } from "./azure-authority.ts";
import { selfSigned } from "./certificate.ts";
import { type HttpServer, startHttpServer } from "./http-server.ts";

export type VaultVersion = {
  version: string;
  value: string;
  enabled: boolean;
  /** Seconds since the epoch, as the vault counts. */
  created: number;
  nbf?: number;
  exp?: number;
};

export type VaultAnswer = { status: number; body?: unknown; headers?: Record<string, string> };

export type AzureVault = {
  /** `https://localhost:port`, a vault. */
  url: string;
  trust: () => void;
  /** A new version of a secret, and its name (32 hex digits). */
  put: (name: string, value: string, more?: Partial<VaultVersion>) => string;
  secrets: Map<string, VaultVersion[]>;
  requests: HttpServer["requests"];
  /** Requests for a secret that came with a token of the authority's, as `GET /secrets/x/`. */
  asked: string[];
  knobs: {
    /** Answers instead of the vault; `hang`: nobody does. Null: it answers itself. */
    answer: (request: HttpServer["requests"][number]) => VaultAnswer | "hang" | null;
    /** What the challenge says, as far as it is not the truth. */
    challenge: { authorization?: string; resource?: string };
    pageSize: number;
    /** Over the next pages. Null: its own. */
    nextLink: string | null;
  };
  stop: () => Promise<void>;
};

/** Its vaults are on localhost, so tokens are for this audience and the package's own check is off (`PrivateCloud`). */
export const VAULT_AUDIENCE = "https://vault.azure.net";
export const VAULT_TENANT = "11111111-1111-1111-1111-111111111111";

/**
 * An Azure Key Vault over https as far as the real `@azure/keyvault-secrets` asks: the challenge, versions in pages, values. It takes
 * tokens of the authority for the vaults' audience and no others.
 */
export async function startAzureVault(authority: AzureAuthority): Promise<AzureVault> {
  const certificate = selfSigned("localhost");
  const secrets: AzureVault["secrets"] = new Map();
  const asked: string[] = [];
  const knobs: AzureVault["knobs"] = { answer: () => null, challenge: {}, pageSize: 2, nextLink: null };
  const server = await startHttpServer((request, response) => {
    void answer(request).then((given) => {
      if (given === "hang") return;
      const { status, body = {}, headers = {} } = given;
      response
        .writeHead(status, { "content-type": "application/json", ...headers })
        .end(typeof body === "string" ? body : JSON.stringify(body));
    });
  }, certificate);
  const url = server.url.replace("127.0.0.1", "localhost");

  async function answer(request: HttpServer["requests"][number]): Promise<VaultAnswer | "hang"> {
    const { method, path, headers } = request;
    const [, token] = /^Bearer (.+)$/.exec(headers.authorization ?? "") ?? [];
    const claims = token === undefined ? null : await authority.verify(token).catch(() => null);
    if (claims?.aud !== VAULT_AUDIENCE) return challenged();
    const { pathname, searchParams } = new URL(path, url);
    asked.push(`${method} ${pathname}`);
    const own = knobs.answer(request);
    if (own !== null) return own;
    const [, , name = "", part = ""] = pathname.split("/");
    const versions = secrets.get(name);
    if (method !== "GET" || !versions) return failed(404, "SecretNotFound");
    if (part === "versions") return page(name, versions, Number(searchParams.get("$skiptoken") ?? 0));
    const found = part === "" ? versions.at(-1) : versions.find(({ version }) => version === part);
    if (!found) return failed(404, "SecretNotFound");
    if (!found.enabled) return failed(403, "Forbidden", "SecretDisabled");
    return { status: 200, body: { value: found.value, ...described(name, found) } };
  }

  function challenged(): VaultAnswer {
    const { authorization = `${authority.url}/${VAULT_TENANT}`, resource = VAULT_AUDIENCE } = knobs.challenge;
    const challenge = `Bearer authorization="${authorization}", resource="${resource}"`;
    return { ...failed(401, "Unauthorized"), headers: { "www-authenticate": challenge } };
  }

  function page(name: string, versions: VaultVersion[], from: number): VaultAnswer {
    const to = from + knobs.pageSize;
    const next = `${url}/secrets/${name}/versions?api-version=7.6&$skiptoken=${to}`;
    const nextLink = to < versions.length ? (knobs.nextLink ?? next) : null;
    const value = versions.slice(from, to).map((version) => described(name, version));
    return { status: 200, body: { value, nextLink } };
  }

  function described(name: string, { version, enabled, created, nbf, exp }: VaultVersion) {
    const attributes = { enabled, created, updated: created, nbf, exp, recoveryLevel: "Recoverable" };
    return { id: `${url}/secrets/${name}/${version}`, attributes };
  }

  let made = 0;
  return {
    url,
    trust: () => tls.setDefaultCACertificates([...tls.getCACertificates("default"), certificate.cert]),
    put: (name, value, more = {}) => {
      const version = randomBytes(16).toString("hex");
      const created = Math.floor(Date.now() / 1000) - 3600 + made++;
      const versions = secrets.get(name) ?? [];
      versions.push({ version, value, enabled: true, created, ...more });
      secrets.set(name, versions);
      return more.version ?? version;
    },
    secrets,
    requests: server.requests,
    asked,
    knobs,
    stop: server.stop,
  };
}

/** An error as Key Vault writes it. */
export function failed(status: number, code: string, inner?: string): VaultAnswer {
  const innererror = inner === undefined ? undefined : { code: inner };
  return { status, body: { error: { code, message: `The vault says ${code}.`, innererror } } };
}
