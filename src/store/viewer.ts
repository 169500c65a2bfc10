import { type Column, type SQL, sql } from "drizzle-orm";
import type { Viewer } from "../core/identity.ts";
import { type Values, given } from "./engine.ts";

type OwnedTable = { ownerUser: Column; ownerPrincipal: Column };

/**
 * Who may see an owned row (DESIGN 5): its user; else, where it has none, its principal. A viewer without a user who
 * inherits sees what the same principal owns, whatever its user. Values: `viewerValues`.
 */
export function visible(table: OwnedTable): SQL {
  return sql`(${table.ownerUser} = ${given(table.ownerUser, "viewerUser")} or (${
    table.ownerPrincipal
  } = ${given(table.ownerPrincipal, "viewerPrincipal")} and (${table.ownerUser} is null or ${sql.placeholder(
    "viewerInherits",
  )} = 1)))`;
}

export function viewerValues(viewer: Viewer): Values {
  return {
    viewerUser: viewer.user,
    viewerPrincipal: viewer.principal,
    viewerInherits: viewer.user === null && viewer.inheritsUser ? 1 : 0,
  };
}
