import { createCache } from "./cache.ts";
import type { ConnectionRecord, HeaderValues } from "./connection.ts";
import type { Context } from "./context.ts";
import { BrokerError } from "./errors.ts";
import { isJsonObject, textMembers } from "./json.ts";
import type { UpstreamAccess, World } from "./ports.ts";
import type { Server } from "./servers.ts";
import { connectionAad } from "./storage.ts";

/** The one door to a credential: whoever wants to reach a server asks here, every time. */
export type AccessDesk = {
  /**
   * Gives what it takes to reach the server for this request: the connection's sealed headers, opened, or the
   * request's own for a `server_url` without a connection. Never falls back from one credential to another.
   *
   * Throws `unavailable` when the box cannot be opened.
   */
  open: (context: Context, server: Server) => Promise<UpstreamAccess>;
};

export function createAccessDesk(world: World): AccessDesk {
  // Keyed by connection and version: an edit is a new key. Rows are read every time, boxes opened once.
  const opened = createCache<HeaderValues>({ max: MAX_OPENED, now: world.clock.now });

  async function headersOf(record: ConnectionRecord): Promise<HeaderValues> {
    const { connection, sealed } = record;
    switch (connection.auth.kind) {
      case "none":
        return {};
      case "key": {
        const key = `${connection.id}:${connection.version}`;
        const cached = opened.get(key);
        if (cached) return cached;
        if (!sealed) throw new BrokerError("unavailable", { what: `the credentials of ${connection.name}` });
        const aad = connectionAad(connection.project, connection.id, connection.version);
        const headers = readHeaders(await world.sealer.open(sealed, aad));
        opened.set(key, headers, { ttlMs: OPENED_TTL_MS });
        return headers;
      }
    }
  }

  return {
    open: async (context, server) => {
      const owner = context.user ?? context.caller.principal;
      if (server.record) {
        const { id, version } = server.record.connection;
        const headers = await headersOf(server.record);
        const partition = `${id}:${version}`;
        return { url: server.url, headers, partition, session: `${partition}:${owner}` };
      }
      const headers = ownHeaders(server);
      // Sessions and listings of one caller's credentials are never another's.
      const own = JSON.stringify([context.project.name, owner, server.url, headers]);
      const partition = `adhoc:${await world.crypto.sha256(own)}`;
      return { url: server.url, headers, partition, session: partition };
    },
  };
}

const MAX_OPENED = 10_000;
const OPENED_TTL_MS = 5 * 60_000;

/** What the request itself brings: `authorization` is a bare token (responses-wire: the server adds `Bearer`). */
function ownHeaders({ tool }: Server): HeaderValues {
  if (tool.authorization === null) return tool.headers;
  return { ...tool.headers, authorization: `Bearer ${tool.authorization}` };
}

/** The plain text of a connection's box: `{"headers":{name:value}}`. */
export function writeHeaders(headers: HeaderValues): string {
  return JSON.stringify({ headers });
}

export function readHeaders(plain: string): HeaderValues {
  const body: unknown = JSON.parse(plain);
  if (!isJsonObject(body) || !isJsonObject(body["headers"]))
    throw new Error("a connection's box holds no headers");
  return textMembers(body["headers"]);
}
