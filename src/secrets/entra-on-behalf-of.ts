import type { OnBehalfOfCredential } from "@azure/identity";
import type { UserToken } from "../core/machine-identity.ts";
import type { Clock } from "../core/ports.ts";
import { type Asked, failed } from "./entra-errors.ts";
import { createEntraHttp } from "./entra-http.ts";
import { credentialOptions, type EntraIdentities, tokenFileOf } from "./entra-identities.ts";
import { type Given, minted, NoVoucher, wordFor } from "./entra-minting.ts";
import {
  type EntraIdentity,
  type EntraProject,
  EXCHANGE,
  type ReadSecret,
  scopeOf,
  settingOf,
  type Vouch,
} from "./entra-settings.ts";

export type ExchangeRequest = {
  project: string;
  exchanger: NonNullable<EntraProject["onBehalfOf"]>;
  /** Where a sentence sends its reader: `projects.{name}.onBehalfOf`. */
  place: string;
  user: UserToken;
  audience: string;
  scopes: string[] | null;
  claims: string | null;
};

/** Who the exchanging application is, and what it shows. */
type Exchanger = { tenantId: string; clientId: string } & (
  | { kind: "secret"; ref: string }
  | { kind: "certificate"; file: string }
  | { kind: "assertion"; make: () => Promise<string> }
);

/**
 * The on-behalf-of flow. A credential of `@azure/identity` holds the user's token: each is made for one exchange and then gone, and with it
 * what it remembers. Whoever asks keeps the result.
 */
export function createOnBehalfOf(world: {
  authorityHost: string;
  identities: EntraIdentities;
  read: ReadSecret;
  vouch: Vouch;
  clock: Pick<Clock, "sleep" | "now">;
}): (request: ExchangeRequest, signal: AbortSignal) => Promise<Given> {
  const { authorityHost, identities, read, vouch, clock } = world;
  const { origin, host } = new URL(authorityHost);

  return async (request, signal) => {
    const { exchanger, project, place, user, audience, claims } = request;
    const setting = settingOf(place);
    const identity = identities.get(exchanger.identity);
    const app = identity && exchangerOf(exchanger, identity, { project, signal });
    if (!app) return failed(`${setting} names nothing that can exchange a user's token.`);
    const scopes = scopesOf(request);
    if (!scopes)
      return failed(`The connection's scopes name another resource than its audience, ${audience}.`);
    if (claims !== null && !isClaims(claims)) return failed("The server's claims challenge cannot be read.");
    const refusal = userFault(user, app.tenantId, setting);
    if (refusal !== null) return failed(refusal);

    const asked: Asked = { setting, audience, server: host, isForUser: true };
    const http = createEntraHttp({ kind: "authority", origin }, clock);
    const work = async () => {
      const options = { ...credentialOptions(authorityHost, http), userAssertionToken: user.token };
      const credential = await credentialOf(app, options);
      // Continuous access evaluation: the resource may answer with a claims challenge, and its tokens live longer.
      const token = await credential.getToken(scopes, {
        enableCae: true,
        ...(claims !== null && { claims }),
      });
      return { token: token.token, expiresAt: token.expiresOnTimestamp };
    };
    return minted(work, { asked, http, signal });
  };

  function userFault(user: UserToken, tenantId: string, setting: string): string | null {
    if (user.tenant === null)
      return `The user's token is of the issuer "${user.issuer}", which is not Microsoft Entra; it cannot be exchanged there.`;
    if (user.tenant.toLowerCase() !== tenantId)
      return `The user's token is of another tenant than ${setting}. Users of that tenant only can be called for.`;
    return user.expiresAt > clock.now() ? null : "The user's token has ended. The user must sign in again.";
  }

  function exchangerOf(
    { identity: name, app }: ExchangeRequest["exchanger"],
    identity: EntraIdentity,
    { project, signal }: { project: string; signal: AbortSignal },
  ): Exchanger | null {
    if (app) {
      const make = async () => {
        const voucher = await identities.token({ name, project, audience: EXCHANGE, fresh: false }, signal);
        if (!voucher.ok) throw new NoVoucher(voucher);
        return voucher.token;
      };
      return { ...app, kind: "assertion", make };
    }
    switch (identity.type) {
      case "managed":
        return null;
      case "secret":
        return { ...identity, kind: "secret", ref: identity.clientSecret };
      case "certificate":
        return { ...identity, kind: "certificate", file: identity.certificateFile };
      case "federated":
        return { ...identity, kind: "assertion", make: () => wordFor(vouch, project) };
      case "workload": {
        const make = async () => read(`file:${await tokenFileOf(identity, read)}`);
        return { ...identity, kind: "assertion", make };
      }
    }
  }

  async function credentialOf(
    app: Exchanger,
    options: ReturnType<typeof credentialOptions> & { userAssertionToken: string },
  ): Promise<OnBehalfOfCredential> {
    const { OnBehalfOfCredential: Credential } = await import("@azure/identity");
    const { tenantId, clientId } = app;
    switch (app.kind) {
      case "secret":
        return new Credential({ ...options, tenantId, clientId, clientSecret: await read(app.ref) });
      case "certificate":
        return new Credential({ ...options, tenantId, clientId, certificatePath: app.file });
      case "assertion":
        return new Credential({ ...options, tenantId, clientId, getAssertion: app.make });
    }
  }
}

/**
 * What is asked for, each scope in full. Null: a scope of another resource, whose token the operator's list has not been asked about;
 * one that is named below this one's is another, too.
 */
function scopesOf({ scopes, audience }: ExchangeRequest): string[] | null {
  if (scopes === null || scopes.length === 0) return [scopeOf(audience)];
  const resource = audience.replace(/\/\.default$/, "").replace(/\/$/, "");
  const full = scopes.map((scope) => (scope.includes("/") ? scope : `${resource}/${scope}`));
  const resourceOf = (scope: string) => scope.slice(0, scope.lastIndexOf("/")).replace(/\/$/, "");
  return full.every((scope) => resourceOf(scope) === resource) ? full : null;
}

/** JSON, as the package puts it into a request with what it adds itself. */
function isClaims(claims: string): boolean {
  try {
    const value: unknown = JSON.parse(claims);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
