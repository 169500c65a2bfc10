import type { Way } from "./authorization.ts";
import { actorOf } from "./consent-ends.ts";
import type { ConsentView } from "./consent-views.ts";
import type { Consent, Flow } from "./consents.ts";
import { auditEntry } from "./context.ts";
import { isRefusal } from "./errors.ts";
import type { World } from "./ports.ts";
import { redirectUrlOf } from "./redirects.ts";
import { consentAad } from "./storage.ts";

/** Only Allow makes state and verifier, right before the browser leaves (P6). Null: it is over meanwhile. */
export async function startAuthorization(
  world: World,
  { consent, hash }: { consent: Consent; hash: string },
  way: Way,
  requestId: string,
): Promise<ConsentView | null> {
  const now = world.clock.now();
  const state = world.crypto.randomText(STATE_BYTES);
  const verifier = world.crypto.randomText(VERIFIER_BYTES);
  const attempt = world.newId("w");
  const flow: Flow = {
    verifier,
    server: way.server,
    clientGeneration: way.clientGeneration,
    redirectUri: redirectUrlOf(world, way.redirectId),
    resource: way.resource,
    scopes: consent.scopes,
  };
  let url: string;
  try {
    url = await world.oauth.authorizationUrl({
      server: flow.server,
      client: way.client,
      redirectUri: flow.redirectUri,
      state,
      verifier,
      scopes: flow.scopes,
      resource: flow.resource,
      params: way.authorizeParams,
      quirks: way.quirks,
    });
  } catch (error) {
    if (!isRefusal(error, "target_refused")) throw error;
    return { kind: "unusable", message: `its authorization server may not be used: ${error.details.why}` };
  }
  const sealedFlow = await world.sealer.seal(
    JSON.stringify(flow),
    consentAad(consent.project, consent.id, attempt),
  );
  const facts = { connection: consent.connection, agent: consent.agent, detail: { consent: consent.id } };
  const entry = auditEntry(world, actorOf(consent, requestId), "consent_allowed", facts);
  const authorized = await world.store.consents.authorize(
    {
      id: consent.id,
      browserHash: hash,
      redirectId: way.redirectId,
      stateHash: await world.crypto.sha256(state),
      stateExpiresAt: now + STATE_MS,
      attempt,
      sealedFlow,
      now,
    },
    [entry],
  );
  return authorized && { kind: "go", url };
}

const STATE_BYTES = 32;
/** RFC 7636, 4.1: 43 to 128 characters. */
const VERIFIER_BYTES = 48;
/** P6: at most ten minutes. */
const STATE_MS = 10 * 60_000;
