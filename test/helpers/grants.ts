import type { Grant } from "../../src/core/grants.ts";
import type { Store } from "../../src/core/storage.ts";
import { aConsent, authorizing, id } from "../store/things.ts";

/** Stores a grant as a finished consent does; gives it as it is stored. There must be no open consent for its key. */
export async function giveGrant(store: Store, grant: Grant): Promise<Grant> {
  const { project, connectionId, user } = grant;
  const attempt = id("w");
  const consent = aConsent(project, { connectionId, user, browserHash: "browser", provenBy: "possession" });
  const { isNew } = await store.consents.open(consent, []);
  await store.consents.authorize(authorizing(consent, { attempt }), []);
  const stored = await store.grants.put(grant, { id: consent.id, attempt, at: grant.createdAt }, []);
  if (!isNew || !stored) throw new Error("another consent is open for this grant");
  return stored;
}
