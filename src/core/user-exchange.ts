import { readExchangeSecret } from "./administration/settings.ts";
import { createCache } from "./cache.ts";
import type { Context } from "./context.ts";
import type { UserToken } from "./machine-identity.ts";
import type { IssuerExchange } from "./issuers.ts";
import { type AuthServer, type OAuthClient, TOKEN_TYPES, tokenServerOf } from "./oauth.ts";
import type { World } from "./ports.ts";

/** Our client at the issuer of a person's token, and what that token is there. */
export type ExchangeWay = { server: AuthServer; client: OAuthClient; subjectTokenType: string };

/** `message`: why a token of this issuer cannot be exchanged, and which setting is concerned. */
export type ExchangeWayFound =
  | { ok: true; way: ExchangeWay }
  | { ok: false; transient: boolean; message: string };

/** Where the tokens of people are exchanged (RFC 8693): at their own issuer, by the client that the project has there. */
export type UserExchange = (
  project: Context["project"],
  user: UserToken,
  signal: AbortSignal,
) => Promise<ExchangeWayFound>;

type ExchangeClient = { issuer: string; exchange: IssuerExchange };

/** Our client at the issuer of a person's token; `message`: why there is none. */
export function exchangeAt(
  { settings }: Pick<Context["project"], "settings">,
  user: Pick<UserToken, "issuer">,
): ExchangeClient | { message: string } {
  const entry = settings.issuers.find(({ name }) => name === user.issuer);
  if (entry?.type === "oidc" && entry.exchange !== null)
    return { issuer: entry.issuer, exchange: entry.exchange };
  const message =
    `tokens of the issuer ${user.issuer} are exchanged by nobody: ` +
    "set exchange (our client there) on it in issuers of the project's settings";
  return { message };
}

export function createUserExchange(world: World): UserExchange {
  const endpoints = createCache<string>({ max: MAX_ISSUERS, now: world.clock.now });

  async function endpointOf(issuer: string, signal: AbortSignal): Promise<string | ExchangeWayFound> {
    const known = endpoints.get(issuer);
    if (known !== undefined) return known;
    const found = await world.oauth.authServer(issuer, signal);
    if (found.ok) {
      endpoints.set(issuer, found.value.tokenEndpoint, { ttlMs: ENDPOINT_TTL_MS });
      return found.value.tokenEndpoint;
    }
    const { failure } = found;
    const why = failure.kind === "refused" ? failure.error : failure.message;
    return {
      ok: false,
      transient: failure.kind === "transient",
      message: `the metadata of ${issuer} cannot be read: ${why}`,
    };
  }

  /** Whether the secrets of this version are of the very client that the request came with: they go to nobody else. */
  async function isStill(
    found: ExchangeClient,
    at: { project: string; version: number | null; user: UserToken },
  ): Promise<boolean> {
    const now = await world.store.projects.get(at.project);
    return now?.version === at.version && isSameClient(exchangeAt(now, at.user), found);
  }

  return async (project, user, signal) => {
    const found = exchangeAt(project, user);
    if ("message" in found) return { ok: false, transient: false, message: found.message };
    const { issuer, exchange } = found;
    const tokenEndpoint = exchange.tokenEndpoint ?? (await endpointOf(issuer, signal));
    if (typeof tokenEndpoint !== "string") return tokenEndpoint;
    const { version, clientSecret } = await readExchangeSecret(world, project, user.issuer);
    if (version !== project.version && !(await isStill(found, { project: project.name, version, user })))
      return { ok: false, transient: true, message: `the settings of ${user.issuer} were changed meanwhile` };
    const client: OAuthClient = {
      clientId: exchange.clientId,
      clientSecret,
      privateKey: null,
      auth: clientSecret === null ? "none" : "basic",
    };
    const server = tokenServerOf({ issuer, issuerAssumed: false, tokenEndpoint });
    return { ok: true, way: { server, client, subjectTokenType: TOKEN_TYPES[exchange.subjectTokenType] } };
  };
}

function isSameClient(one: ExchangeClient | { message: string }, other: ExchangeClient): boolean {
  return (
    "issuer" in one &&
    one.issuer === other.issuer &&
    one.exchange.clientId === other.exchange.clientId &&
    one.exchange.tokenEndpoint === other.exchange.tokenEndpoint
  );
}

const MAX_ISSUERS = 1_000;
const ENDPOINT_TTL_MS = 5 * 60_000;
