import type { AuditEntry } from "./audit.ts";
import type { Connector, ConnectorRecord } from "./connection.ts";
import type { Listed, Page } from "./storage.ts";

/** Beyond projects: an operator's. The audit of a connector has the project `""`. */
export type Connectors = {
  get: (name: string) => Promise<ConnectorRecord | null>;
  /** In order of name. */
  list: (page: Page) => Promise<Listed<Connector>>;
  /** False: the name is taken. */
  insert: (record: ConnectorRecord, audit: AuditEntry[]) => Promise<boolean>;
  /** False: the row is no longer at `version`. */
  replace: (record: ConnectorRecord, version: number, audit: AuditEntry[]) => Promise<boolean>;
  /** Its redirect begins to age at `at`. */
  delete: (name: string, at: number, audit: AuditEntry[]) => Promise<boolean>;
};

/** Whose callback a redirect id is; the owner's name keeps it when it is made again within 30 days. */
export type RedirectOwner =
  | { kind: "connection"; project: string; name: string }
  | { kind: "connector"; name: string };

export type Redirects = {
  /**
   * The owner's redirect id: the one that it has, or had until less than `REDIRECT_KEPT_MS` ago, else `fresh`. Of
   * racers all receive the same.
   */
  ensure: (owner: RedirectOwner, fresh: string, now: number) => Promise<string>;
  /** Null: unknown, or aged out at `now`. */
  owner: (id: string, now: number) => Promise<RedirectOwner | null>;
};

export const REDIRECT_KEPT_MS = 30 * 24 * 60 * 60_000;
