import { randomBytes } from "node:crypto";
import { type Grant, grantAad } from "../src/core/grants.ts";
import type { Store } from "../src/core/storage.ts";
import { createNodeCrypto } from "../src/secrets/crypto.node.ts";
import { parseKeyring } from "../src/secrets/keyring.ts";
import { createSealer } from "../src/secrets/seal.ts";
import { giveGrant } from "../test/helpers/grants.ts";

export const PROJECT = "default";

/** Gives grants that serve, like the one of `model`, to people who had none. */
export type Giver = {
  model: Grant;
  /** Each as a consent leaves it: sealed for its own place, with the consent that it came of. Gives their names, in no order. */
  give: (people: number) => Promise<string[]>;
};

/** `boxBytes`: the least of a box, however short the model's tokens are. */
export async function openGiver(
  store: Store,
  { user, keyring, boxBytes }: { user: Grant["user"]; keyring: string; boxBytes: number },
): Promise<Giver> {
  const { rows } = await store.grants.list(PROJECT, { user }, { after: null, limit: 1 });
  const [model] = rows;
  if (!model) throw new Error(`${user} has no grant`);
  const sealer = createSealer({ keyring: parseKeyring(keyring), suite: createNodeCrypto() });
  const tokens = widened(await sealer.open(model.sealed, grantAad(model)), boxBytes);
  const giveOne = async () => {
    const name = randomBytes(8).toString("hex");
    const grant: Grant = { ...model, id: `grant_${randomBytes(25).toString("hex")}`, user: `app:${name}` };
    await giveGrant(store, { ...grant, sealed: await sealer.seal(tokens, grantAad(grant)) });
    return name;
  };
  return {
    model,
    give: async (people) => {
      const names: string[] = [];
      while (names.length < people) names.push(await giveOne());
      return names;
    },
  };
}

/** The tokens of a box with a refresh token that fills it up; nobody uses that. */
export function widened(tokens: string, bytes: number): string {
  const body = JSON.parse(tokens) as object; // Seam: a grant's box holds an object.
  const short = JSON.stringify({ ...body, refreshToken: "" }).length;
  const refreshToken = randomBytes(bytes)
    .toString("base64url")
    .slice(0, Math.max(1, bytes - short));
  return JSON.stringify({ ...body, refreshToken });
}
