import { html } from "hono/html";
import type { ConsentFacts, ConsentView } from "../core/consent-views.ts";
import { type Page, paragraphs, projectOf, refusedPage, unusablePage } from "./pages.ts";
import { hostOf, inert, type Markup } from "./pages-inert.ts";
import { overPage } from "./pages-outcomes.ts";
import { scopeList } from "./pages-scopes.ts";
import { hourOf, spanUntil } from "./pages-times.ts";

/** A view that is no redirect. */
type Shown = Exclude<ConsentView, { kind: "go" }>;

/** The page of a consent, whatever has become of it. `now`: milliseconds since the epoch. */
export function consentPage(view: Shown, now: number): Page {
  switch (view.kind) {
    case "unknown":
      return unknownPage;
    case "sign_in":
      return signInPage(view);
    case "ask":
      return askPage(view, now);
    case "refused":
      return refusedPage;
    case "over":
      return overPage(view);
    case "unusable":
      return unusablePage(view.message);
  }
}

const unknownPage: Page = {
  status: 404,
  title: "There is nothing at this link",
  body: paragraphs(
    "The link is incomplete, or it was not made here.",
    "Open it again from where you got it. If you typed or copied it, check that all of it is there.",
  ),
};

function signInPage({ host, csrf }: { host: string; csrf: string }): Page {
  return {
    status: 200,
    title: "First, sign in",
    formsLeave: true,
    body: html` <p>
        Somebody asks to connect an account for one person. Sign in, so that it is clear that you are this
        person.
      </p>
      <p>
        You will sign in at ${hostOf(host)}. The sign-in is used for this one question, and then it is
        forgotten.
      </p>
      <form method="post">
        <input type="hidden" name="csrf" value="${csrf}" />
        <div class="actions"><button class="main" name="action" value="sign_in">Sign in</button></div>
      </form>`,
  };
}

function askPage({ facts, csrf }: { facts: ConsentFacts; csrf: string }, now: number): Page {
  const { connection, serverHost, authorizationHost, expiresAt } = facts;
  return {
    status: 200,
    title: `Connect ${connection}`,
    formsLeave: true,
    body: html` <p>
        ${askerOf(facts)} wants to use <strong>${inert(connection)}</strong> with your own account.
      </p>
      ${whyAgain(facts)}
      <dl>
        ${whoAsks(facts)}
        <div>
          <dt>Server to be used</dt>
          <dd>${hostOf(serverHost)}</dd>
        </div>
        <div>
          <dt>You will sign in at</dt>
          <dd>${hostOf(authorizationHost)}</dd>
        </div>
        ${elsewhere(facts)}
        <div>
          <dt>What is asked for</dt>
          <dd>${scopesOf(facts)}</dd>
        </div>
        <div>
          <dt>Who you are</dt>
          <dd>${personOf(facts)}</dd>
        </div>
        <div>
          <dt>This link ends</dt>
          <dd>in about ${spanUntil(expiresAt, now)}, at ${hourOf(expiresAt)}</dd>
        </div>
      </dl>
      <p>
        Allow takes you to ${hostOf(authorizationHost)}, which may ask you to sign in. Then calls to this
        server are made as you, until you disconnect it (ask for the link to your connected accounts). Allow
        it only if you expected to be asked.
      </p>
      <form method="post">
        <input type="hidden" name="csrf" value="${csrf}" />
        <div class="actions">
          <button class="main" name="action" value="allow">Allow</button>
          <button name="action" value="decline">Decline</button>
        </div>
      </form>`,
  };
}

/** Hosts besides the one that the person will see: whoever collects the permission, and whoever stands for it. */
function elsewhere({ authorizationHost, tokenHost, issuerHost }: ConsentFacts): Markup | "" {
  const others = [...new Set([tokenHost, issuerHost])].filter((host) => host !== authorizationHost);
  if (others.length === 0) return "";
  return html`<div>
    <dt>Your permission goes to</dt>
    <dd>${others.map((host) => html`${hostOf(host)} `)}</dd>
  </div>`;
}

function askerOf({ agent, callerName }: ConsentFacts): Markup {
  return agent === null
    ? html`The application with the key <strong>${inert(callerName)}</strong>`
    : html`The agent <strong>${inert(agent)}</strong>`;
}

/** Nothing where the first sentence has said it all. */
function whoAsks(facts: ConsentFacts): Markup | "" {
  const { agent, callerName } = facts;
  if (agent === null || agent === callerName) return "";
  return html`<div>
    <dt>Who asks</dt>
    <dd>${askerOf(facts)}, through the key <strong>${inert(callerName)}</strong></dd>
  </div>`;
}

function scopesOf({ scopes, newScopes, authorizationHost }: ConsentFacts): Markup {
  if (scopes === null || scopes.length === 0) {
    return html`Nothing by name: ${hostOf(authorizationHost)} says what it allows.`;
  }
  const isNew = new Set(newScopes);
  return scopeList(scopes, newScopes.length < scopes.length ? isNew : new Set());
}

function personOf({ proof, user, project }: ConsentFacts): Markup {
  const who = html`<strong>${inert(user)}</strong>`;
  const where = projectOf(project);
  switch (proof) {
    case "sign-in":
      return html`You are signed in as ${who} ${where}.`;
    case "runtime":
      return html`The application that sent you here knows you as ${who} ${where}.`;
    case "possession":
      return html`Whoever opens this link first is taken to be ${who} ${where}. If that is not you, decline.`;
  }
}

/** Why a person who allowed it before is asked once more. */
function whyAgain({ why, newScopes, connection }: ConsentFacts): Markup | "" {
  if (why === "none") return "";
  const name = html`<strong>${inert(connection)}</strong>`;
  if (newScopes.length > 0) {
    return html`<p class="note">
      You connected ${name} before. What is to be done now needs more than you allowed then: it is marked
      “new”.
    </p>`;
  }
  return html`<p class="note">
    You connected ${name} before, and that does not hold any more. ${REASONS[why] ?? ""}
  </p>`;
}

const REASONS: Record<string, string> = {
  invalid_grant: "The permission has ended, or it was taken back at the server.",
  client_changed: "The connection was set up anew.",
  connection_changed: "The connection was set up anew.",
  insufficient_scope: "The server asks for another permission.",
  revoked: "It was disconnected.",
};
