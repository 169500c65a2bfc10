import type { AuthorizationDesk, Way } from "./authorization.ts";
import { createCallback } from "./consent-callback.ts";
import { consentIn, consentLink } from "./consent-asking.ts";
import { confirmUrlFor } from "./consent-confirm.ts";
import { digestOf, formToken, NOTHING_SHOWN, shownBy } from "./consent-form.ts";
import { startAuthorization } from "./consent-start.ts";
import { actorOf, endConsent, isOver, overView, refuse, standingRecord } from "./consent-ends.ts";
import { proofOf } from "./consent-proof.ts";
import type { ConsentFacts, ConsentPages, ConsentView, Visitor, WithBrowser } from "./consent-views.ts";
import type { Consent } from "./consents.ts";
import type { ConnectionRecord } from "./connection.ts";
import { auditEntry } from "./context.ts";
import type { World } from "./ports.ts";
import type { ConsentProof } from "./project.ts";
import { redirectUrlOf } from "./redirects.ts";
import type { SignInDesk } from "./sign-in.ts";

type Outside = { world: World; authorization: AuthorizationDesk; signIn: SignInDesk };

/** A consent, and what there is to it now: somebody may still go on with it. */
type Standing = { consent: Consent; record: ConnectionRecord; proof: ConsentProof };

/** A form that came: from which browser, from a page that showed what, and whether that browser is the person's. */
type Submitted = Standing & { hash: string; shown: string; isProven: boolean };

/** What happens behind `/consent/{ticket}` (DESIGN 6), line by line. */
export function createConsentPages(outside: Outside): ConsentPages {
  const { world, authorization, signIn } = outside;
  const callback = createCallback(outside);

  /** The consent behind a ticket, with the reasons why it cannot go on. */
  async function standing(ticket: string, visitor: Visitor): Promise<Standing | { view: ConsentView }> {
    const id = await consentIn(world, ticket);
    const consent = id && (await world.store.consents.find(id));
    if (!consent) return { view: { kind: "unknown" } };
    const browserHash = visitor.browser === null ? null : await world.crypto.sha256(visitor.browser);
    if (isOver(consent, world.clock.now())) return { view: await overView(world, consent, browserHash) };
    const project = await world.store.projects.get(consent.project);
    if (!project) return { view: { kind: "unknown" } };
    const record = await standingRecord(world, consent);
    if ("outcome" in record) {
      const { outcome } = record;
      return {
        view: await endConsent(world, consent, {
          status: "failed",
          outcome,
          browserHash,
          requestId: visitor.requestId,
        }),
      };
    }
    const proof = proofOf(world, project, consent, consent.user);
    if (!proof.ok) return { view: { kind: "unusable", message: proof.message } };
    return { consent, record, proof: proof.proof };
  }

  async function ask(
    { consent, record, proof }: Standing,
    hash: string,
    requestId: string,
  ): Promise<ConsentView> {
    const way = await authorization.known(record);
    if (!way) return { kind: "unusable", message: "its authorization server is not known any more" };
    // What has no host cannot be shown, and nobody is sent there (A9).
    if (!/^https?:/i.test(way.server.authorizationEndpoint)) {
      return { kind: "unusable", message: "its authorization server may not be used" };
    }
    if (consent.shownAt === null) {
      const entry = entryOf(consent, requestId, "consent_shown");
      await world.store.consents.shown(consent.id, world.clock.now(), [entry]);
    }
    return {
      kind: "ask",
      facts: factsOf({ consent, record, proof }, way),
      csrf: await formToken(world, consent, {
        browserHash: hash,
        shown: await digestOf(world, consent, way),
      }),
    };
  }

  function entryOf(consent: Consent, requestId: string, event: "consent_shown") {
    const facts = { connection: consent.connection, agent: consent.agent, detail: { consent: consent.id } };
    return auditEntry(world, actorOf(consent, requestId), event, facts);
  }

  /** Whoever is not proven yet: the one proof that is set, and no other. */
  async function prove(
    { consent, proof, record }: Standing,
    hash: string,
    visitor: Visitor,
  ): Promise<ConsentView> {
    switch (proof) {
      case "possession": {
        // Only here does a GET bind (DESIGN 6).
        const proven = await world.store.consents.prove(
          { id: consent.id, browserHash: hash, by: proof, rebind: "never", now: world.clock.now() },
          [],
        );
        if (!proven) return refuse(world, consent, { why: "other_browser", requestId: visitor.requestId });
        return ask({ consent: proven, record, proof }, hash, visitor.requestId);
      }
      case "sign-in": {
        const project = await world.store.projects.get(consent.project);
        const host = URL.parse(project?.settings.signIn?.issuer ?? "")?.host ?? "";
        const csrf = await formToken(world, consent, { browserHash: hash, shown: NOTHING_SHOWN });
        return { kind: "sign_in", host, csrf };
      }
      case "runtime":
        return { kind: "go", url: await confirmUrlFor(world, consent, hash) };
    }
  }

  /** A form of ours, sent by the browser that is proven; anything else is refused, and nothing is bound by it. */
  async function submitted(
    ticket: string,
    visitor: Visitor,
    csrf: string,
  ): Promise<Submitted | { view: ConsentView }> {
    const found = await standing(ticket, visitor);
    if ("view" in found) return found;
    const { consent, proof } = found;
    const { requestId } = visitor;
    if (visitor.browser === null)
      return { view: await refuse(world, consent, { why: "no_cookie", requestId }) };
    const hash = await world.crypto.sha256(visitor.browser);
    const shown = await shownBy(world, consent, { browserHash: hash, token: csrf });
    if (shown === null) return { view: await refuse(world, consent, { why: "csrf", requestId }) };
    return { ...found, hash, shown, isProven: isProven(consent, hash, proof) };
  }

  async function allow(ticket: string, visitor: Visitor, csrf: string): Promise<ConsentView> {
    const found = await submitted(ticket, visitor, csrf);
    if ("view" in found) return found.view;
    const { consent, record, hash } = found;
    const { requestId } = visitor;
    if (!found.isProven) return refuse(world, consent, { why: "other_browser", requestId });
    const ready = await authorization.ready(actorOf(consent, requestId), record, null);
    if (!ready.ok) return { kind: "unusable", message: ready.failure.message };
    // Allow is what the page said, and nothing else.
    if (found.shown !== (await digestOf(world, consent, ready.way))) return ask(found, hash, requestId);
    return (await startAuthorization(world, found, ready.way, requestId)) ?? overView(world, consent, hash);
  }

  async function decline(ticket: string, visitor: Visitor, csrf: string): Promise<ConsentView> {
    const found = await submitted(ticket, visitor, csrf);
    if ("view" in found) return found.view;
    const { consent, hash: browserHash } = found;
    const { requestId } = visitor;
    if (!found.isProven) return refuse(world, consent, { why: "other_browser", requestId });
    return endConsent(world, consent, { status: "declined", outcome: "declined", browserHash, requestId });
  }

  /** Whatever comes of it, a browser without our cookie gets one: what it does next must be recognized. */
  async function withBrowser(
    visitor: Visitor,
    work: (known: Visitor & { browser: string }) => Promise<ConsentView>,
  ): Promise<WithBrowser<ConsentView>> {
    const fresh = visitor.browser === null ? world.crypto.randomText(TOKEN_BYTES) : null;
    const browser = visitor.browser ?? fresh ?? "";
    return { view: await work({ ...visitor, browser }), setBrowser: fresh };
  }

  const keeping = async (view: Promise<ConsentView>): Promise<WithBrowser<ConsentView>> => ({
    view: await view,
    setBrowser: null,
  });

  return {
    show: (ticket, visitor) =>
      withBrowser(visitor, async (known) => {
        const found = await standing(ticket, known);
        if ("view" in found) return found.view;
        const hash = await world.crypto.sha256(known.browser);
        if (isProven(found.consent, hash, found.proof)) return ask(found, hash, known.requestId);
        return prove(found, hash, known);
      }),
    signIn: (ticket, visitor, csrf) =>
      keeping(
        (async () => {
          const found = await submitted(ticket, visitor, csrf);
          if ("view" in found) return found.view;
          const { consent, proof, hash } = found;
          if (proof !== "sign-in") {
            return refuse(world, consent, { why: "other_proof", requestId: visitor.requestId });
          }
          const begun = await signIn.begin(
            { kind: "consent", id: consent.id, project: consent.project },
            hash,
          );
          return begun.ok ? { kind: "go", url: begun.url } : { kind: "unusable", message: begun.message };
        })(),
      ),
    allow: (ticket, visitor, csrf) => keeping(allow(ticket, visitor, csrf)),
    decline: (ticket, visitor, csrf) => keeping(decline(ticket, visitor, csrf)),
    resume: async (token, visitor) => {
      const now = world.clock.now();
      const handle =
        visitor.browser === null
          ? null
          : await world.store.handles.take({
              kind: "continue",
              hash: await world.crypto.sha256(token),
              browserHash: await world.crypto.sha256(visitor.browser),
              now,
            });
      const consent = handle && (await world.store.consents.find(handle.subject as Consent["id"])); // a handle's subject is what its kind says
      if (!handle?.browserHash || !consent) return { kind: "refused" };
      const proven = await world.store.consents.prove(
        { id: consent.id, browserHash: handle.browserHash, by: "runtime", rebind: "while open", now },
        [],
      );
      if (!proven) return refuse(world, consent, { why: "not_open", requestId: visitor.requestId });
      return { kind: "go", url: await consentLink(world, consent.id) };
    },
    callback,
    clientDocument: async (redirectId) => {
      const clientId = world.clientDocumentUrl(redirectId);
      if (clientId === null || !(await world.store.redirects.owner(redirectId, world.clock.now())))
        return null;
      return {
        clientId,
        clientName: "Consentry",
        clientUri: world.publicUrl,
        redirectUris: [redirectUrlOf(world, redirectId)],
      };
    },
  };
}

const TOKEN_BYTES = 32;

/** Whether this browser was proven, and by the proof that counts now: a setting that changed asks anew. */
function isProven(consent: Consent, hash: string, proof: ConsentProof): boolean {
  return consent.browserHash === hash && consent.provenBy === proof;
}

function factsOf({ consent, record, proof }: Standing, way: Way): ConsentFacts {
  const { project, connection, scopes, newScopes, why, agent, callerName, user, expiresAt } = consent;
  return {
    project,
    connection,
    serverHost: new URL(record.connection.target).host,
    authorizationHost: new URL(way.server.authorizationEndpoint).host,
    tokenHost: new URL(way.server.tokenEndpoint).host,
    issuerHost: new URL(way.server.issuer).host,
    scopes,
    newScopes,
    why,
    agent,
    callerName,
    user,
    proof,
    expiresAt,
  };
}
