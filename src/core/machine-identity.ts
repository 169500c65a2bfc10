/**
 * Identities that are not a person's (DESIGN 11): the project's own, and its agents'. An `agent` of null is the one that a
 * project's agents share.
 */
export type MachineIdentity =
  | { kind: "project"; project: string }
  | { kind: "agent"; project: string; agent: string | null };

/** Whom a server will see: what it can give rights to. None of it is secret. */
export type Principal = {
  /** `iss` of its tokens. */
  issuer: string;
  /** `sub` of our own tokens, the object id (`oid`) of Entra's. Null: not known before the first token. */
  subject: string | null;
  /** The client (application) id, where the issuer knows applications. */
  clientId: string | null;
  /** Entra's tenant. Null: the issuer has none. */
  tenant: string | null;
};

/** Why there is no token. `message` says what to do, and holds no secret. */
export type MintFailure = {
  ok: false;
  /** Passes by itself: asked again later, never turned into a question to a person. */
  transient: boolean;
  message: string;
  /** What the person's client must sign in with to get further (a claims challenge, as the issuer wrote it). Null: nothing. */
  claims: string | null;
};

/** `expiresAt`: milliseconds since the epoch. */
export type Minted = { ok: true; token: string; expiresAt: number; principal: Principal } | MintFailure;

/**
 * Somebody who vouches for identities. Never throws for what a server does. Whoever asks keeps what is given until shortly
 * before it ends, and asks once for all that wait (`minted-tokens.ts`); a provider need not.
 */
export type IdentityProvider = {
  /** Who `identity` is, as far as that is known without a token. Null: this provider has none for it. */
  describe: (identity: MachineIdentity) => Promise<Principal | null>;
  /** A token of `identity` for `audience`. `fresh`: not one that is remembered; a server has just turned that down. */
  token: (
    request: { identity: MachineIdentity; audience: string; fresh: boolean },
    signal: AbortSignal,
  ) => Promise<Minted>;
};

/** A person's own token, as it came with a request: the caller's, or the assertion that the caller passed on. */
export type UserToken = {
  /**
   * The compact JWT. It is exchanged for another token and nothing else: never sent to a server, stored or logged
   * (threats, rule 10; A16).
   */
  token: string;
  /** The `name` of the project's issuer that vouches for it. */
  issuer: string;
  /** Entra's tenant. Null: an issuer that is not Entra. */
  tenant: string | null;
  /** Milliseconds since the epoch. */
  expiresAt: number;
};

/** Microsoft Entra: identities that the operator configured, and its words on where their tokens may go (DESIGN 11). */
export type Entra = IdentityProvider & {
  /**
   * The on-behalf-of exchange (OAuth 2.0 On-Behalf-Of flow of the Microsoft identity platform): a token for `audience` as
   * the person whose token it is. `claims`: what a server's claims challenge asked for.
   */
  onBehalfOf: (
    request: {
      project: string;
      user: UserToken;
      audience: string;
      scopes: string[] | null;
      claims: string | null;
      fresh: boolean;
    },
    signal: AbortSignal,
  ) => Promise<Minted>;
  /** Why a token for `audience` must not be sent to this URL, by the operator's host-to-audience list. Null: it may. */
  targetFault: (url: string, audience: string) => string | null;
  /** Whether these claims are those of one of our own identities: they make nobody a caller of ours. */
  isOurs: (claims: Readonly<Record<string, unknown>>) => boolean;
};
