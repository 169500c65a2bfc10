import { approvalViewer, decideByRest, getApproval, openHeld, openReason } from "../../core/approval.ts";
import { BrokerError } from "../../core/errors.ts";
import type { HeldCall } from "../../core/storage.ts";
import { pageOf, answerList } from "../paging.ts";
import { projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { approvalBody, approvalQuery, decision, writeApproval } from "../wire/approvals.ts";
import { listOf } from "../wire/common.ts";

const tag = "approvals";
const path = "/api/projects/{project}/approvals";
const readers = ["admin", "approver", "runtime"] as const;

/**
 * Calls that wait, or waited, for a person. A decision here only decides: the stored call runs on its owner's next
 * request (DESIGN 7). Approvers and admins see the project's, runtimes their own.
 */
export function approvalRoutes({ world, publicUrl }: Deps): Route[] {
  async function write(call: HeldCall) {
    const [held, reason] = await Promise.all([openHeld(world, call), openReason(world, call)]);
    return writeApproval(call, { arguments: held.arguments, reason, now: world.clock.now() });
  }

  return [
    projectRoute({
      method: "GET",
      path,
      tag,
      roles: readers,
      summary: "List approvals, newest first",
      query: approvalQuery,
      answers: { 200: { description: "A page of approvals", body: listOf(approvalBody) } },
      handle: async (call, { query }) => {
        const { context } = call;
        const { rows, more } = await world.store.heldCalls.list(
          {
            project: context.project.name,
            viewer: approvalViewer(context),
            status: query.status ?? null,
            now: world.clock.now(),
          },
          pageOf(query),
        );
        const listed = { rows: await Promise.all(rows.map(write)), more };
        return answerList(call, { listed, write: (row) => row, idOf: ({ id }) => id, publicUrl });
      },
    }),
    projectRoute({
      method: "GET",
      path: `${path}/{id}`,
      tag,
      roles: readers,
      summary: "One approval, with the exact arguments",
      answers: { 200: { description: "The approval", body: approvalBody } },
      handle: async ({ context, params }) => {
        const { id = "" } = params;
        const call = await getApproval(world, context, id);
        if (!call) throw new BrokerError("approval_not_found", { id });
        return Response.json(await write(call));
      },
    }),
    projectRoute({
      method: "POST",
      path: `${path}/{id}:decide`,
      tag,
      roles: ["approver", "runtime"],
      summary: "Approve or deny, once",
      body: decision,
      answers: {
        200: { description: "The approval as it stands now", body: approvalBody },
        400: { description: "It has expired, was cancelled, or was decided otherwise" },
        403: { description: "It is for somebody else to decide" },
      },
      handle: async ({ context, params }, { body }) => {
        const { id = "" } = params;
        return Response.json(await write(await decideByRest(world, context, { id, ...body })));
      },
    }),
  ];
}
