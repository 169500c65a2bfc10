import { projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { answerList, pageOf } from "../paging.ts";
import { auditBody, auditQuery, readAuditFilter, writeAuditEntry } from "../wire/audit.ts";
import { listOf } from "../wire/common.ts";

/** What happened in a project, newest first. */
export function auditRoutes({ world, publicUrl }: Deps): Route[] {
  return [
    projectRoute({
      method: "GET",
      path: "/api/projects/{project}/audit",
      tag: "audit",
      roles: ["admin"],
      summary: "List audit entries, newest first, by any of their facts",
      query: auditQuery,
      answers: { 200: { description: "A page of entries", body: listOf(auditBody) } },
      handle: async (call, { query }) => {
        const { name } = call.context.project;
        const listed = await world.store.audit.list(name, readAuditFilter(query), pageOf(query));
        return answerList(call, { listed, write: writeAuditEntry, idOf: ({ id }) => id, publicUrl });
      },
    }),
  ];
}
