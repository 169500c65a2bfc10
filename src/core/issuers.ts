import type { Right, Role } from "./identity.ts";

/** Whose tokens prove callers and users of a project (DESIGN 5). */
export type TokenIssuer = EntraIssuer | OidcIssuer;

/** Microsoft Entra: some tenants of one authority. */
export type EntraIssuer = IssuerRules & {
  type: "entra";
  /** Tenant ids in lower case; tokens of any other tenant are nobody's. */
  tenants: string[];
  /** An origin: `https://login.microsoftonline.com`, or a national cloud's. */
  authority: string;
};

/** Any issuer that publishes its metadata (RFC 8414, OpenID Connect Discovery). */
export type OidcIssuer = IssuerRules & {
  type: "oidc";
  issuer: string;
  algorithms: SigningAlgorithm[];
  /** Which tokens are a person's. Null: every token is an application's. */
  delegated: DelegatedRule | null;
  /** Our own client at this issuer, for RFC 8693; its secret is sealed beside the settings. Null: there is none. */
  exchange: IssuerExchange | null;
};

type IssuerRules = {
  /** The realm of an `oidc` issuer's users, as in `{name}:{sub}`. Unique in the project. */
  name: string;
  /** `aud` of tokens that are meant for us. */
  audiences: string[];
  /** The clients (`azp`, `appid`, `client_id`) whose tokens count. Null: any. */
  clients: string[] | null;
  clockSkewSeconds: number;
  roles: RoleRule[];
  /** What a key has for the consent proof `runtime`. */
  confirmUrl: string | null;
  doneUrl: string | null;
};

/** Whose tokens carry this claim with this value are given these. The claim's name is literal: dots are no path. */
export type RoleRule = { claim: string; value: string; roles: Role[]; rights: Right[] };

/** A token is a person's when this claim has this value. `value` null: when the claim is there. */
export type DelegatedRule = { claim: string; value: string | null };

export type IssuerExchange = {
  clientId: string;
  /** Null: the one that the issuer's metadata name. */
  tokenEndpoint: string | null;
  subjectTokenType: SubjectTokenType;
};

export const SUBJECT_TOKEN_TYPES = ["access_token", "id_token", "jwt"] as const;
export type SubjectTokenType = (typeof SUBJECT_TOKEN_TYPES)[number];

/** Signatures by a key pair: with a shared secret, or none at all, whoever can verify can sign (RFC 8725, 2.1). */
export const SIGNING_ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
] as const;
export type SigningAlgorithm = (typeof SIGNING_ALGORITHMS)[number];

/** An issuer's entry in the settings, as one `iss` means it. */
export type IssuerMatch = {
  entry: TokenIssuer;
  /** Whose metadata say where the keys are: byte for byte the `issuer` in them. */
  keysOf: string;
  /** Entra's tenant that the `iss` is of. Null: an issuer that is not Entra. */
  tenant: string | null;
};

/** The entry that `iss` belongs to, compared byte for byte. Null: it is nobody's that this project trusts. */
export function issuerOf(issuers: readonly TokenIssuer[], iss: string): IssuerMatch | null {
  for (const entry of issuers) {
    switch (entry.type) {
      case "oidc":
        if (entry.issuer === iss) return { entry, keysOf: iss, tenant: null };
        break;
      case "entra": {
        const tenant = entry.tenants.find(
          (one) => iss === entraIssuer(entry, one) || iss === entraIssuerV1(one),
        );
        if (tenant !== undefined) return { entry, keysOf: entraIssuer(entry, tenant), tenant };
        break;
      }
    }
  }
  return null;
}

/** The texts by which an entry is known as an issuer elsewhere in the settings. */
export function issuersNamed(entry: TokenIssuer): string[] {
  switch (entry.type) {
    case "oidc":
      return [entry.issuer];
    case "entra":
      return entry.tenants.map((tenant) => entraIssuer(entry, tenant));
  }
}

/** The audiences of the tokens with which callers come to a project: no identity's and no exchanged token is for them. */
export function callerAudiences({ settings }: { settings: { issuers: readonly TokenIssuer[] } }): string[] {
  return settings.issuers.flatMap(({ audiences }) => audiences);
}

/** Whether an issuer is at our own place: our workload tokens make nobody a caller of ours (DESIGN 11). */
export function isOurOwn(issuer: string, publicUrl: string): boolean {
  return URL.parse(issuer)?.host === URL.parse(publicUrl)?.host;
}

/**
 * The tenant of an issuer that is Entra: at an authority that everybody knows, or at one that the project names for that
 * tenant. Null: it is none; `common` and the like are not issuers of anybody.
 */
export function entraTenantOf(issuer: string, issuers: readonly TokenIssuer[]): string | null {
  const match = issuerOf(issuers, issuer);
  if (match !== null) return match.tenant;
  const [, authority = "", tenant = null] = ENTRA.exec(issuer) ?? [];
  return ENTRA_AUTHORITIES.has(authority) ? tenant : null;
}

/** The issuer of version 2.0 tokens. */
export const entraIssuer = ({ authority }: Pick<EntraIssuer, "authority">, tenant: string) =>
  `${authority}/${tenant}/v2.0`;

/** Tokens for an API whose registration asks for version 1.0 have this issuer, whatever the authority. */
const entraIssuerV1 = (tenant: string) => `https://sts.windows.net/${tenant}/`;

export const DEFAULT_AUTHORITY = "https://login.microsoftonline.com";
/** Of the public cloud, the US government's and the one in China. */
const ENTRA_AUTHORITIES = new Set([
  DEFAULT_AUTHORITY,
  "https://login.microsoftonline.us",
  "https://login.partner.microsoftonline.cn",
]);
const ENTRA = /^(https:\/\/[^/]+)\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/v2\.0$/;
