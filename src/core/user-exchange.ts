import { readExchangeSecret } from "./administration/settings.ts";
import { createCache } from "./cache.ts";
import type { Context } from "./context.ts";
import { issuersNamed } from "./issuers.ts";
import type { UserToken } from "./machine-identity.ts";
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

  return async (project, user, signal) => {
    const vouched = entryOf(project, user);
    const { version, clientSecret } = await readExchangeSecret(world, project, user.issuer);
    const current = version === project.version ? project : await world.store.projects.get(project.name);
    if (current && current.version !== version) return { ok: false, transient: true, message: CHANGING };
    const entry = current && entryOf(current, user);
    // Under its name there may be another issuer by now: neither that one's secret nor this one's person is for the other.
    if (!entry || !vouched || issuersNamed(entry).join() !== issuersNamed(vouched).join())
      return {
        ok: false,
        transient: false,
        message: `the issuer ${user.issuer} is no longer in the settings`,
      };
    if (entry.type !== "oidc" || entry.exchange === null) {
      const message =
        `tokens of the issuer ${user.issuer} are exchanged by nobody: ` +
        "set exchange (our client there) on it in issuers of the project's settings";
      return { ok: false, transient: false, message };
    }
    const { issuer, exchange } = entry;
    const tokenEndpoint = exchange.tokenEndpoint ?? (await endpointOf(issuer, signal));
    if (typeof tokenEndpoint !== "string") return tokenEndpoint;
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

const entryOf = ({ settings }: Context["project"], { issuer }: UserToken) =>
  settings.issuers.find(({ name }) => name === issuer);

const CHANGING = "the settings of the project are being changed";
const MAX_ISSUERS = 1_000;
const ENDPOINT_TTL_MS = 5 * 60_000;
