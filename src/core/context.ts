import type { AgentIdentity } from "./agents.ts";
import type { AuditEntry, AuditEvent } from "./audit.ts";
import type { Caller } from "./identity.ts";
import type { UserId } from "./ids.ts";
import type { UserToken } from "./machine-identity.ts";
import type { Holder, World } from "./ports.ts";
import type { Project } from "./project.ts";
import type { Trace } from "./trace.ts";

/** One request, after it was decided who calls, for whom, and in which project. */
export type Context = {
  project: Project;
  caller: Caller;
  user: UserId | null;
  /** The user's own token, where the request came with one. Null: the user is a name, or there is none. */
  userToken: UserToken | null;
  requestId: string;
  /** The stored agent that acts, by name. */
  agent?: string | null;
  /** Whose identity it acts with, as stored when the turn began. */
  agentIdentity?: AgentIdentity | null;
  /**
   * When it was made: one that was deleted and made again under its name is another, and so is whom servers see. Null: it is
   * gone, and has no identity any more.
   */
  agentMadeAt?: number | null;
  /** Connections that the person declined to connect, in the conversation that this request goes on with. */
  declined?: ReadonlySet<string>;
  /** The trace that it belongs to, and what is done for it. Null: none. */
  trace?: Trace | null;
  /** Somebody reads what is done as it goes: the answer is a stream. */
  watched?: boolean;
  /** Aborts when the caller is gone or the process must stop. */
  signal: AbortSignal;
};

/** Whose sessions at servers a request's are: its user's, else its caller's. */
export const ownerOf = ({ user, caller }: Pick<Context, "user" | "caller">): string =>
  user ?? caller.principal;

/** Whose the sessions are that this request has at a connection. */
export const holderOf = (context: Context, connection: string): Holder => ({
  project: context.project.name,
  connection,
  owner: ownerOf(context),
});

/** Who did something, for the audit. */
export type Actor = {
  caller: { principal: string | null };
  user: UserId | null;
  requestId: string;
  project: { name: string };
};

/** The record of something that this request did. */
export function auditEntry(
  world: Pick<World, "clock" | "newId">,
  context: Actor,
  event: AuditEvent,
  facts: Partial<Omit<AuditEntry, "id" | "project" | "at" | "event">> = {},
): AuditEntry {
  const at = world.clock.now();
  return {
    id: world.newId("evt", at),
    project: context.project.name,
    at,
    event,
    outcome: "ok",
    principal: context.caller.principal,
    user: context.user,
    connection: null,
    tool: null,
    agent: null,
    responseId: null,
    approvalId: null,
    requestId: context.requestId,
    durationMs: null,
    detail: {},
    ...facts,
  };
}
