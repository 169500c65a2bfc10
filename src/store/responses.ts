import { and, asc, desc, eq, gte, inArray, lt, lte, sql } from "drizzle-orm";
import { hasPrefix } from "../core/ids.ts";
import type { Response } from "../core/request.ts";
import type { Responses } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import { createBoxes, createMarkedRest, headOf, jsonBytes, parseJsonBytes } from "./boxes.ts";
import {
  type Engine,
  MAX_PARAMETERS,
  type Statement,
  given,
  insertIfMarked,
  marked,
  newMark,
  pieces,
  placeholderRows,
  step,
} from "./engine.ts";
import { createExtendConversation } from "./conversation-thread.ts";
import { createDeleteResponse } from "./responses-delete.ts";
import type { Tables } from "./tables.ts";
import { indexKey } from "./text.ts";
import { viewerValues, visible } from "./viewer.ts";

type ResponseRow = Tables["responses"]["$inferSelect"];
type ItemTableRow = Tables["items"]["$inferSelect"];

export function createResponses(engine: Engine): Responses {
  const { threads, responses, conversations, items } = engine.tables;
  const boxes = createBoxes(engine);
  const row = marked(threads, [threads.id]);
  const audited = createMarkedAudit(engine.tables, row);
  const rest = createMarkedRest(engine.tables, row);
  const insertResponse = insertIfMarked(responses, row);
  const insertItem = insertIfMarked(items, row);

  const get: Statement<ResponseRow[]> = (db) =>
    db
      .select()
      .from(responses)
      .where(
        and(
          eq(responses.id, given(responses.id, "id")),
          eq(responses.project, given(responses.project, "project")),
          visible(responses),
        ),
      );
  const last: Statement<ResponseRow[]> = (db) =>
    db
      .select()
      .from(responses)
      .where(
        and(
          eq(responses.threadId, given(responses.threadId, "threadId")),
          eq(responses.project, given(responses.project, "project")),
          lte(responses.end, given(responses.end, "to")),
          visible(responses),
        ),
      )
      .orderBy(desc(responses.end))
      .limit(1);
  const range: Statement<ItemTableRow[]> = (db) =>
    db
      .select()
      .from(items)
      .where(
        and(
          eq(items.threadId, given(items.threadId, "threadId")),
          eq(items.project, given(items.project, "project")),
          gte(items.position, given(items.position, "from")),
          lt(items.position, given(items.position, "to")),
        ),
      )
      .orderBy(asc(items.position));
  const begin: Statement<{ id: string }[]> = (db) =>
    db
      .insert(threads)
      .values(placeholderRows(threads, 1))
      .onConflictDoUpdate({
        target: threads.id,
        set: { length: given(threads.length, "length"), writeId: given(threads.writeId, "writeId") },
        setWhere: sql`${threads.project} = ${given(threads.project, "project")} and ${threads.length} = 0`,
      })
      .returning({ id: threads.id });
  const extendConversation = createExtendConversation(engine);
  const extend: Statement<{ id: string }[]> = (db) =>
    db
      .update(threads)
      .set({ length: given(threads.length, "length"), writeId: given(threads.writeId, "writeId") })
      .where(
        and(
          eq(threads.id, given(threads.id, "id")),
          eq(threads.project, given(threads.project, "project")),
          eq(threads.length, given(threads.length, "from")),
        ),
      )
      .returning({ id: threads.id });

  const wholeItem = async (item: ItemTableRow) => {
    const { id, position, threadId, project } = item;
    const sealed = await boxes.whole({ project, owner: threadId, part: position }, item.sealed);
    return { id, position, sealed };
  };

  const wholeResponse = async (found: ResponseRow) => {
    const { id, project, threadId, inputFrom, outputFrom, end, sealedToolSecrets: secrets } = found;
    const body = await boxes.whole({ project, owner: id, part: BODY }, found.body);
    return {
      response: parseJsonBytes<Response>(body),
      threadId,
      inputFrom,
      outputFrom,
      end,
      sealedToolSecrets: secrets && (await boxes.whole({ project, owner: id, part: TOOL_SECRETS }, secrets)),
    };
  };

  return {
    get: async (project, id, viewer) => {
      const [found] = await engine.run(get, { project, id, ...viewerValues(viewer) });
      if (!found) return null;
      return wholeResponse(found);
    },

    lastOf: async (project, threadId, to, viewer) => {
      const [found] = await engine.run(last, { project, threadId, to, ...viewerValues(viewer) });
      return found ? wholeResponse(found) : null;
    },

    items: async (project, threadId, from, to) => {
      const rows = await engine.run(range, { project, threadId, from, to });
      return Promise.all(rows.map(wholeItem));
    },

    findItems: async (project, ids, viewer) => {
      const keys = new Map<string, string>();
      for (const id of ids) keys.set(await indexKey(id), id);
      const found = await Promise.all(
        pieces([...keys.keys()], MAX_PARAMETERS - 10).map((piece) =>
          engine.run(
            (db) =>
              db
                .select()
                .from(items)
                .where(
                  and(
                    eq(items.project, project),
                    inArray(items.id, piece),
                    // An item counts as part of a response that continues from it, not of later ones of its thread.
                    sql`(exists (select 1 from ${responses} where ${responses.threadId} = ${
                      items.threadId
                    } and ${responses.end} > ${items.position} and ${visible(responses)})
                    or exists (select 1 from ${conversations} where ${conversations.id} = ${
                      items.threadId
                    } and ${visible(conversations)}))`,
                  ),
                )
                .orderBy(asc(items.threadId), asc(items.position)),
            viewerValues(viewer),
          ),
        ),
      );
      return Promise.all(
        found.flat().map(async (item) => ({
          ...(await wholeItem(item)),
          id: keys.get(item.id) ?? item.id,
          threadId: item.threadId,
        })),
      );
    },

    append: async (stored, rows, audit) => {
      const { response, threadId, inputFrom, outputFrom, end, sealedToolSecrets } = stored;
      const { id, project, owner, createdAt } = response;
      const writeId = newMark();
      const found = row.values([threadId], writeId);
      const body = jsonBytes(response);
      // A fork brings its past along and begins at 0.
      const from = rows[0]?.position ?? end;
      const thread = { id: threadId, project, length: end, writeId };
      const values = {
        id,
        project,
        threadId,
        inputFrom,
        outputFrom,
        end,
        ownerUser: owner.user,
        ownerPrincipal: owner.principal,
        createdAt,
        body: headOf(body),
        sealedToolSecrets: sealedToolSecrets && headOf(sealedToolSecrets),
        writeId,
      };
      const keyed = await Promise.all(rows.map(async (item) => ({ ...item, id: await indexKey(item.id) })));
      const written = [
        step(insertResponse, { ...values, ...found }),
        ...rest({ project, owner: id, part: BODY }, body, found),
        ...rest({ project, owner: id, part: TOOL_SECRETS }, sealedToolSecrets, found),
        ...keyed.flatMap((item) => [
          step(insertItem, { ...item, sealed: headOf(item.sealed), project, threadId, ...found }),
          ...rest({ project, owner: threadId, part: item.position }, item.sealed, found),
        ]),
        ...audited(audit, found),
      ];
      // A conversation's thread is there from the beginning, and nobody goes on with it afterwards.
      if (hasPrefix("conv", threadId)) {
        const conversation = { project, id: threadId, from, length: end, writeId };
        const [, extended] = await engine.atomic([...extendConversation(conversation), ...written]);
        return extended.length > 0;
      }
      const [continued] = await engine.atomic([
        from === 0 ? step(begin, thread) : step(extend, { ...thread, from }),
        ...written,
      ]);
      return continued.length > 0;
    },

    delete: createDeleteResponse(engine),
  };
}

// The boxes of a response. Those of a thread are its items, by position.
const BODY = 0;
const TOOL_SECRETS = 1;
