import { whoAmI } from "../../core/administration/whoami.ts";
import { answerList, pageOf } from "../paging.ts";
import { projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { whoamiBody, whoamiQuery, writeCaller, writePresentation } from "../wire/whoami.ts";

/** Who calls, and as whom each connection would call for them. */
export function whoamiRoutes({ broker, publicUrl }: Deps): Route[] {
  return [
    projectRoute({
      method: "GET",
      path: "/api/projects/{project}/whoami",
      tag: "connections",
      roles: ["admin", "runtime"],
      summary: "Who calls, and which principal each connection would present",
      query: whoamiQuery,
      answers: {
        200: { description: "The caller, and a page of connections in order of name", body: whoamiBody },
      },
      handle: async (call, { query }) => {
        const { context } = call;
        const { agent = null, connection = null } = query;
        const listed = await whoAmI(broker.desks, context, { agent, connection }, pageOf(query));
        return answerList(call, {
          listed,
          write: writePresentation,
          idOf: (row) => row.connection.name,
          publicUrl,
          beside: { caller: writeCaller(context) },
        });
      },
    }),
  ];
}
