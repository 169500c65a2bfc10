import type { ConsentStatus } from "./consents.ts";
import type { Context } from "./context.ts";
import type { Told } from "./disconnect.ts";
import type { UserId } from "./ids.ts";
import type { ConsentProof } from "./project.ts";
import type { SignInDesk } from "./sign-in.ts";

/** A browser at one of our pages, before anybody knows whose it is. */
export type Visitor = {
  /** The value of our browser cookie, as it came. Null: it has none. */
  browser: string | null;
  requestId: string;
};

/** What a page is told besides what it shows: a fresh value for the browser cookie. Null: it keeps the one it has. */
export type WithBrowser<T> = { view: T; setBrowser: string | null };

/** All that a person needs to decide (DESIGN 6). Texts of others are untrusted: names, scopes, hosts are shown inert and whole. */
export type ConsentFacts = {
  project: string;
  connection: string;
  /** The MCP server's host, with its port. */
  serverHost: string;
  /** The authorization server's host to which Allow leads, with its port. */
  authorizationHost: string;
  /** Where the code goes that becomes the permission: the token endpoint's host, and who stands for it, the issuer's. */
  tokenHost: string;
  issuerHost: string;
  scopes: string[] | null;
  /** Of these, what is asked for beyond what was granted before. */
  newScopes: string[];
  /** Why they are asked again; `none` the first time. */
  why: string;
  /** The stored agent's name. Null: the request named none, and `callerName` (the key's) is shown. */
  agent: string | null;
  callerName: string;
  user: UserId;
  proof: ConsentProof;
  /** When the link ends. */
  expiresAt: number;
};

/** What `/consent/{ticket}` shows or does. `csrf` goes into the form. */
export type ConsentView =
  /** The ticket is none of ours. */
  | { kind: "unknown" }
  /** Somebody must sign in first, at this host. */
  | { kind: "sign_in"; host: string; csrf: string }
  /** The browser is sent on: to the runtime that knows its person, or to the authorization server. */
  | { kind: "go"; url: string }
  | { kind: "ask"; facts: ConsentFacts; csrf: string }
  /** One dull sentence, whatever the reason: another browser, another person, a form that is not ours. */
  | { kind: "refused" }
  /**
   * It is over. `connection` and `outcome` only for the person's own browser; strangers learn no more than that it is.
   * `doneUrl`: where the runtime wants people afterwards.
   */
  | {
      kind: "over";
      status: Exclude<ConsentStatus, "open" | "authorizing">;
      connection: string | null;
      serverHost: string | null;
      /** Why it failed, as a code: `iss_mismatch`, `access_denied`, `exchange_failed`, … */
      outcome: string | null;
      doneUrl: string | null;
    }
  /** It cannot go on here, and what an admin must do. */
  | { kind: "unusable"; message: string };

/** The consent pages' side of the broker. Never throws for what a visitor does; every refusal is audited with its reason. */
export type ConsentPages = {
  /** GET `/consent/{ticket}`. Only under the proof `possession` it binds the browser. */
  show: (ticket: string, visitor: Visitor) => Promise<WithBrowser<ConsentView>>;
  /** POST `sign_in`: gives `go` to the project's issuer. */
  signIn: (ticket: string, visitor: Visitor, csrf: string) => Promise<WithBrowser<ConsentView>>;
  /** POST `allow`: gives `go` to the authorization server. */
  allow: (ticket: string, visitor: Visitor, csrf: string) => Promise<WithBrowser<ConsentView>>;
  /** POST `decline`: gives `over`. */
  decline: (ticket: string, visitor: Visitor, csrf: string) => Promise<WithBrowser<ConsentView>>;
  /** GET `/consent/continue/{token}`: the runtime recognized its person, in this browser. Gives `go` to our own page. */
  resume: (token: string, visitor: Visitor) => Promise<ConsentView>;
  /** GET `/oauth/callback/{redirectId}`: gives `go` to the consent's own page, which says how it ended, or `refused`. `params`: the query as it came. */
  callback: (redirectId: string, params: URLSearchParams, visitor: Visitor) => Promise<ConsentView>;
  /** The OAuth client ID metadata document of a redirect id. Null: there is none such. */
  clientDocument: (redirectId: string) => Promise<ClientDocument | null>;
};

/** `draft-ietf-oauth-client-id-metadata-document`: `client_id` is the document's own URL, byte for byte. */
export type ClientDocument = {
  clientId: string;
  clientName: string;
  clientUri: string;
  redirectUris: string[];
};

/** What `/me/{project}` shows: what a person connected. */
export type Connected = {
  grant: string;
  connection: string;
  serverHost: string;
  status: "active" | "needs_consent";
  scopes: string[];
  connectedAt: number;
  lastUsedAt: number | null;
  /** The agent, or the key, that used it last. */
  lastUsedBy: string | null;
  /** False: when its access token ends, the person is asked again. */
  renewsItself: boolean;
};

export type MeView =
  /** There is neither a sign-in nor a link: how a person gets here. 404. */
  | { kind: "closed" }
  | { kind: "sign_in"; host: string; csrf: string }
  | { kind: "go"; url: string }
  | { kind: "refused" }
  /** A link that was opened: a button makes the session, so that a scanner's GET does no harm. */
  | { kind: "link"; token: string; csrf: string }
  /** The link is used up, over, or none of ours. 404. */
  | { kind: "no_link" }
  /** The session is over, as the person wished. */
  | { kind: "left" }
  /** Nobody can sign in right now, in words of ours. */
  | { kind: "unusable"; message: string }
  | {
      kind: "me";
      user: UserId;
      connected: Connected[];
      csrf: string;
      /** What came of a disconnect just now. `upstream`: whether the authorization server was told. */
      done: { connection: string; upstream: Told } | null;
    };

/** Gives a fresh session value for the cookie of `/me`. */
export type WithSession<T> = WithBrowser<T> & { setSession: string | null };

export type MePages = {
  show: (project: string, visitor: Visitor, session: string | null) => Promise<WithBrowser<MeView>>;
  /** POST: gives `go` to the project's issuer. */
  signIn: (project: string, visitor: Visitor, csrf: string) => Promise<WithBrowser<MeView>>;
  /** GET and POST of a one-time link. */
  showLink: (project: string, token: string, visitor: Visitor) => Promise<WithBrowser<MeView>>;
  openLink: (project: string, token: string, visitor: Visitor, csrf: string) => Promise<WithSession<MeView>>;
  disconnect: (
    project: string,
    request: { grant: string; csrf: string },
    visitor: Visitor,
    session: string | null,
  ) => Promise<MeView>;
  leave: (project: string, csrf: string, visitor: Visitor, session: string | null) => Promise<MeView>;
  /**
   * A one-time link into `/me` for a user whom the caller may name; null: the one whose own token the request came with. Throws `forbidden`, `invalid`, `user_blocked`.
   * `expiresAt`: milliseconds since the epoch.
   */
  makeLink: (context: Context, user: string | null) => Promise<{ url: string; expiresAt: number }>;
};

/** GET `/signin/callback`: back to the consent that it was for, or into `/me` with a session. */
export type SignInEnd =
  | { kind: "consent"; url: string }
  | { kind: "me"; url: string; session: string }
  | { kind: "refused" }
  /** `code`: for whoever helps. `back`: where to try again. */
  | { kind: "failed"; code: string; message: string; back: string | null };

/** What the broker does for people at their browsers. */
export type People = { consent: ConsentPages; me: MePages; signIn: SignInDesk };
