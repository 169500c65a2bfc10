import type { Connection } from "./connection.ts";
import type { World } from "./ports.ts";

/**
 * Whether a connection, as it is meant now, has clients at so many authorization servers that another one is not credible: a
 * server that names a new one each time would fill the database. The audit counts, which all replicas write with the clients.
 */
export async function hasTooManyClients(
  { store }: Pick<World, "store">,
  { project, name, createdAt, generation }: Connection,
): Promise<boolean> {
  const issuers = new Set<unknown>();
  const filter = { event: "client_registered", connection: name, since: createdAt } as const;
  let after: string | null = null;
  for (let seen = 0; seen < MAX_LOOKED_AT; seen += PAGE) {
    const page: Awaited<ReturnType<typeof store.audit.list>> = await store.audit.list(project, filter, {
      after,
      limit: PAGE,
    });
    for (const { detail } of page.rows)
      if (detail["generation"] === generation) issuers.add(detail["issuer"]);
    if (issuers.size >= MAX_CLIENTS) return true;
    after = page.rows.at(-1)?.id ?? null;
    if (!page.more || after === null) return false;
  }
  return false;
}

/** Of one connection, each at another authorization server. */
export const MAX_CLIENTS = 20;
const PAGE = 100;
const MAX_LOOKED_AT = 1_000;
