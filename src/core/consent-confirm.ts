import { refuse } from "./consent-ends.ts";
import type { Consent } from "./consents.ts";
import type { Context } from "./context.ts";
import { BrokerError } from "./errors.ts";
import { assertedUser } from "./identity.ts";
import type { World } from "./ports.ts";
import { withParams } from "./url-rules.ts";

/** The runtime's page, with a code that says which consent and which browser; it says nothing to anybody else. */
export async function confirmUrlFor(world: World, consent: Consent, browserHash: string): Promise<string> {
  const code = world.crypto.randomText(TOKEN_BYTES);
  const now = world.clock.now();
  await world.store.handles.put(
    {
      hash: await world.crypto.sha256(code),
      kind: "consent_code",
      project: consent.project,
      subject: consent.id,
      browserHash,
      sealed: null,
      createdAt: now,
      expiresAt: now + CODE_MS,
    },
    [],
  );
  return withParams(consent.confirmUrl ?? "", { consent_code: code });
}

/**
 * The proof `runtime` (DESIGN 6): a runtime that knows who is signed in at its own page says so, for the code that the
 * browser brought. Gives the URL for that browser: only together with its cookie does it show Allow, so that neither a
 * code nor a URL is worth anything in another browser.
 *
 * Throws `consent_refused` for everything that is wrong; the audit says what.
 */
export async function confirmConsent(
  world: World,
  context: Context,
  { code, user }: { code: string; user: string },
): Promise<string> {
  if (!context.caller.rights.includes("act_for_users")) throw refused();
  const now = world.clock.now();
  const hash = await world.crypto.sha256(code);
  const handle = await world.store.handles.get("consent_code", hash, now);
  if (handle?.project !== context.project.name || handle.browserHash === null) throw refused();
  const { browserHash, subject, project } = handle;
  const taken = await world.store.handles.take({ kind: "consent_code", hash, browserHash, now });
  const consent = taken && (await world.store.consents.find(subject as Consent["id"])); // a code's subject is a consent
  if (!consent) throw refused();
  const { requestId } = context;
  const why = whyNot(consent, userNamed(user), now);
  if (why !== null) {
    await refuse(world, consent, { why, requestId });
    throw refused();
  }
  const token = world.crypto.randomText(TOKEN_BYTES);
  await world.store.handles.put(
    {
      hash: await world.crypto.sha256(token),
      kind: "continue",
      project,
      subject,
      browserHash,
      sealed: null,
      createdAt: now,
      expiresAt: now + CONTINUE_MS,
    },
    [],
  );
  return `${world.publicUrl}/consent/continue/${token}`;
}

const TOKEN_BYTES = 32;
const CODE_MS = 5 * 60_000;
const CONTINUE_MS = 5 * 60_000;

const refused = () => new BrokerError("consent_refused", {});

function whyNot(consent: Consent, user: string | null, now: number): string | null {
  if (consent.user !== user) return "other_user";
  const isOpen = consent.status === "open" || consent.status === "authorizing";
  return isOpen && consent.expiresAt > now ? null : "not_open";
}

function userNamed(name: string): string | null {
  try {
    return assertedUser(name, "user");
  } catch {
    return null;
  }
}
