import { operatorRoute, projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { answerList, pageOf } from "../paging.ts";
import { auditBody, auditQuery, readAuditFilter, writeAuditEntry } from "../wire/audit.ts";
import { listOf } from "../wire/common.ts";

const tag = "audit";
const roles = ["admin"] as const;
const answers = { 200: { description: "A page of entries", body: listOf(auditBody) } };
/** What belongs to no project is written down under this name, which none can have. */
const OPERATORS = "";

/** What happened in a project, and to connectors, newest first. */
export function auditRoutes({ world, publicUrl }: Deps): Route[] {
  return [
    operatorRoute({
      method: "GET",
      path: "/api/audit",
      tag,
      roles,
      summary: "List what happened beyond projects, which is to connectors, newest first",
      query: auditQuery,
      answers,
      handle: async (call, { query }) => {
        const listed = await world.store.audit.list(OPERATORS, readAuditFilter(query), pageOf(query));
        return answerList(call, { listed, write: writeAuditEntry, idOf: ({ id }) => id, publicUrl });
      },
    }),
    projectRoute({
      method: "GET",
      path: "/api/projects/{project}/audit",
      tag,
      roles,
      summary: "List audit entries, newest first, by any of their facts",
      query: auditQuery,
      answers,
      handle: async (call, { query }) => {
        const { name } = call.context.project;
        const listed = await world.store.audit.list(name, readAuditFilter(query), pageOf(query));
        return answerList(call, { listed, write: writeAuditEntry, idOf: ({ id }) => id, publicUrl });
      },
    }),
  ];
}
