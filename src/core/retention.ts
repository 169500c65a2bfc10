import type { AuditEntry, AuditEvent } from "./audit.ts";
import { auditEntry } from "./context.ts";
import { MAX_EXPIRY_MS } from "./administration/settings.ts";
import type { TimePoint } from "./expiry.ts";
import type { Chore, Housekeeping } from "./housekeeping.ts";
import type { Owner, Viewer } from "./identity.ts";
import type { Project } from "./project.ts";

/**
 * What a project keeps for a while only (its settings say for how long): a response or a conversation is deleted as its owner would
 * delete it, with its audit entry; then the held calls that nothing speaks of any more. Responses in a conversation say when that was
 * used last, and stay as long as it does.
 */
export function* deleteOld(world: Housekeeping, project: Project): Generator<Chore> {
  const { retention } = world.store.upkeep;
  const { name, settings } = project;
  const responsesBefore = beginOf(world, settings.responseRetentionDays);
  const conversationsBefore = beginOf(world, settings.conversationRetentionDays);

  if (conversationsBefore !== null) {
    let after: TimePoint | null = null;
    yield {
      name: "conversations",
      batch: async (limit) => {
        const found = await retention.conversations(
          { project: name, before: conversationsBefore, after },
          limit,
        );
        let rows = 0;
        for (const { id, owner, usedAt } of found) {
          if (usedAt >= conversationsBefore) continue;
          const entry = entryOf(
            world,
            { project: name, owner, event: "conversation_deleted" },
            { conversation: id },
          );
          // It may have been answered since it was found.
          const query = { project: name, id, viewer: viewerOf(owner), unusedSince: conversationsBefore };
          if (await world.store.conversations.delete(query, [entry])) rows++;
        }
        after = found.at(-1) ?? after;
        return { rows, more: found.length === limit };
      },
    };
  }

  if (responsesBefore === null) return;
  let behind: TimePoint | null = null;
  yield {
    name: "responses",
    batch: async (limit) => {
      const found = await retention.responses(
        { project: name, before: responsesBefore, after: behind },
        limit,
      );
      let rows = 0;
      for (const { id, owner, isInConversation } of found) {
        if (isInConversation) continue;
        const entry = {
          ...entryOf(world, { project: name, owner, event: "response_deleted" }, {}),
          responseId: id,
        };
        const query = { project: name, id, viewer: viewerOf(owner), at: world.clock.now() };
        if (await world.store.responses.delete(query, [entry])) rows++;
      }
      behind = found.at(-1) ?? behind;
      return { rows, more: found.length === limit };
    },
  };

  let after: TimePoint | null = null;
  yield {
    name: "old_held_calls",
    batch: async (limit) => {
      const decidedBefore = world.clock.now() - APPROVED_KEPT_MS;
      const of = { project: name, before: responsesBefore, decidedBefore, after };
      const { deleted, next } = await retention.heldCalls(of, limit);
      after = next;
      return { rows: deleted, more: next !== null };
    },
  };
}

const beginOf = ({ clock }: Housekeeping, days: number | null) =>
  days === null ? null : clock.now() - days * DAY_MS;

/** Exactly what its owner sees. */
const viewerOf = ({ user, principal }: Owner): Viewer => ({ user, principal, inheritsUser: false });

function entryOf(
  world: Housekeeping,
  { project, owner, event }: { project: string; owner: Owner; event: AuditEvent },
  detail: AuditEntry["detail"],
): AuditEntry {
  const nobody = { caller: { principal: null }, user: owner.user, requestId: "", project: { name: project } };
  return auditEntry(world, nobody, event, { requestId: null, detail: { ...detail, why: "retention" } });
}

const DAY_MS = 24 * 60 * 60_000;
/** What was approved is run by its owner's next request, which may take as long as the longest time for deciding. */
const APPROVED_KEPT_MS = MAX_EXPIRY_MS;
