import type { AdapterFactory, AdapterPayload, JWK } from "oidc-provider";

/** Rows in memory, of one server. The provider's own memory is shared by all servers of a process and holds a thousand rows. */
export function createAdapters(clients: AdapterPayload[] = []): AdapterFactory {
  const rows = new Map(clients.map((client) => [`Client:${String(client["client_id"])}`, client]));
  const byUid = new Map<string, string>();
  return (model) => ({
    upsert: async (id, payload) => {
      rows.set(`${model}:${id}`, payload);
      if (payload.uid !== undefined) byUid.set(`${model}:${payload.uid}`, id);
    },
    find: async (id) => rows.get(`${model}:${id}`),
    findByUid: async (uid) => rows.get(`${model}:${byUid.get(`${model}:${uid}`) ?? ""}`),
    findByUserCode: async () => undefined,
    consume: async (id) => {
      const row = rows.get(`${model}:${id}`);
      if (row) row.consumed = Math.floor(Date.now() / 1000);
    },
    destroy: async (id) => {
      rows.delete(`${model}:${id}`);
    },
    revokeByGrantId: async (grantId) => {
      for (const [key, row] of rows) if (row.grantId === grantId) rows.delete(key);
    },
  });
}

export async function createSigningKey(): Promise<JWK> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const { privateKey } = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const { kty = "", crv = "", x = "", y = "", d = "" } = await crypto.subtle.exportKey("jwk", privateKey);
  return { kty, crv, x, y, d, kid: "server-key", use: "sig", alg: "ES256" };
}
