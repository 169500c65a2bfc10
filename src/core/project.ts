import type { ApprovalRule } from "./policy.ts";

/** What an admin may set for a project. Every field has a default; see `DEFAULT_SETTINGS`. */
export type Settings = {
  users: {
    /** Whether `safety_identifier` and `user` of a body name the user, for callers who may assert one. */
    fromBody: boolean;
  };
  /** Fills `requireApproval` of new connections. Null: they get none of their own. */
  defaultRequireApproval: ApprovalRule | null;
  approvals: {
    /** How long a held call waits for its decision. */
    expireAfterMs: number;
  };
  /** What a `server_url` without a connection may reach. Null: `allow` on loopback, `deny` elsewhere. */
  adhocServers: "deny" | "allow" | string[] | null;
};

export const DEFAULT_SETTINGS: Settings = {
  users: { fromBody: true },
  defaultRequireApproval: null,
  approvals: { expireAfterMs: 24 * 60 * 60 * 1000 },
  adhocServers: null,
};

/** The tenant boundary. Its name is its id, in every route and every row. */
export type Project = {
  name: string;
  settings: Settings;
  version: number;
  createdAt: number;
};

/** Case-sensitive. Starts with a letter or digit, so that no name is a path step or an option. */
export const PROJECT_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/;
