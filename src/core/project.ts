import type { TokenIssuer } from "./issuers.ts";
import type { ApprovalRule } from "./policy.ts";
import type { ModelApi } from "./ports.ts";

/** What an admin may set for a project. Every field has a default; see `DEFAULT_SETTINGS`. */
export type Settings = {
  users: {
    /** Whether `safety_identifier` and `user` of a body name the user, for callers who may assert one. */
    fromBody: boolean;
    /**
     * Asserted names and an issuer's users are one realm: asserted names are this claim of its sign-ins and tokens. Null:
     * they never mix. `email` counts only with `email_verified`.
     */
    assertedAs: { issuer: string; claim: "sub" | "oid" | "email" } | null;
  };
  /** Fills `requireApproval` of new connections. Null: they get none of their own. */
  defaultRequireApproval: ApprovalRule | null;
  approvals: {
    /** How long a held call waits for its decision. */
    expireAfterMs: number;
  };
  /** What a `server_url` without a connection may reach. Null: `allow` on loopback, `deny` elsewhere. */
  adhocServers: "deny" | "allow" | string[] | null;
  /** How the person at a consent page is proven to be the user. Null: the operator's default. */
  consentProof: ConsentProof | null;
  /** The OpenID provider of the proof `sign-in` and of `/me`. Its client secret is sealed beside the settings. */
  signIn: SignInSettings | null;
  /** Whose tokens prove callers and users. */
  issuers: TokenIssuer[];
  /** Models of the project's own (`core/model-upstreams`). Their keys are sealed beside the settings. */
  models: ModelUpstream[];
  /** How a response asks for consent (responses-wire 6). */
  consentPresentation: "item+message" | "item" | "message";
  consentStatus: "completed" | "incomplete";
  /** Streams bring Foundry's old event beside the item, which clients that know OpenAI's events alone do not survive. */
  consentEvent: boolean;
};

export const CONSENT_PROOFS = ["sign-in", "runtime", "possession"] as const;
export type ConsentProof = (typeof CONSENT_PROOFS)[number];

export type SignInSettings = {
  /** The realm of its users, as in `{name}:{sub}`. */
  name: string;
  issuer: string;
  clientId: string;
};

/** Where models are, and how they are spoken to. */
export type ModelUpstream = {
  /** What stands before the slash in a request's `model`. */
  name: string;
  baseUrl: string;
  api: ModelApi;
  /** Where the key is kept, to be shown; the box beside the settings says it, too. Left out: here, or there is none. */
  apiKeyRef?: string;
};

export const DEFAULT_SETTINGS: Settings = {
  users: { fromBody: true, assertedAs: null },
  defaultRequireApproval: null,
  approvals: { expireAfterMs: 24 * 60 * 60 * 1000 },
  adhocServers: null,
  consentProof: null,
  signIn: null,
  issuers: [],
  models: [],
  consentPresentation: "item+message",
  consentStatus: "completed",
  consentEvent: false,
};

/** Settings as a row holds them: one that was written before a setting was known has its default. */
export function wholeSettings(stored: Settings): Settings {
  return { ...DEFAULT_SETTINGS, ...stored };
}

/** The tenant boundary. Its name is its id, in every route and every row. */
export type Project = {
  name: string;
  settings: Settings;
  version: number;
  createdAt: number;
};

/** Case-sensitive. Starts with a letter or digit, so that no name is a path step or an option. */
export const PROJECT_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/;
