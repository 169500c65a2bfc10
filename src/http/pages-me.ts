import { html } from "hono/html";
import type { Connected, MeView, SignInEnd } from "../core/consent-views.ts";
import { forHelpers, type Page, paragraphs, projectOf, refusedPage, unusablePage } from "./pages.ts";
import { hostOf, inert, type Markup } from "./pages-inert.ts";
import { scopeList } from "./pages-scopes.ts";
import { momentOf } from "./pages-times.ts";

/** A view that is no redirect. */
type Shown = Exclude<MeView, { kind: "go" }>;

/** The pages of `/me/{project}`. */
export function mePage(view: Shown, project: string): Page {
  switch (view.kind) {
    case "closed":
      return closedPage;
    case "sign_in":
      return signInPage(view, project);
    case "refused":
      return refusedPage;
    case "link":
      return linkPage(view.csrf, project);
    case "no_link":
      return noLinkPage;
    case "left":
      return leftPage;
    case "unusable":
      return unusablePage(view.message);
    case "me":
      return accountsPage(view, project);
  }
}

/** How a sign-in ended that leads nowhere. */
export function signInEndPage(end: SignInEnd & { kind: "refused" | "failed" }): Page {
  if (end.kind === "refused") return refusedPage;
  return {
    status: 400,
    title: "You are not signed in",
    body: html` <p>${end.message}</p>
      <p>If it happens again, show this page to whoever runs the service.</p>
      ${forHelpers(end.code)}
      ${end.back === null ? "" : html`<div class="actions"><a class="button main" href="${end.back}">Try again</a></div>`}`,
  };
}

const closedPage: Page = {
  status: 404,
  title: "There is no way in here",
  body: paragraphs(
    "This page shows which accounts you connected. Here you cannot sign in to it, or your visit is over.",
    "Ask the application that you use for a link to your connected accounts: it can make one for you.",
  ),
};

const noLinkPage: Page = {
  status: 404,
  title: "This link is finished",
  body: paragraphs(
    "It was used already, or its ten minutes are over, or it is incomplete.",
    "Go back to where you got it and ask for a new one.",
  ),
};

const leftPage: Page = {
  status: 200,
  title: "You have left",
  body: paragraphs("Your visit is over. What you connected stays connected.", "You can close this page."),
};

function signInPage({ host, csrf }: { host: string; csrf: string }, project: string): Page {
  return {
    status: 200,
    title: "Your connected accounts",
    formsLeave: true,
    body: html` <p>
        Sign in to see which accounts you connected, and to disconnect them. ${projectOf(project)}
      </p>
      <p>You will sign in at ${hostOf(host)}.</p>
      <form method="post">
        <input type="hidden" name="csrf" value="${csrf}" />
        <div class="actions"><button class="main" name="action" value="sign_in">Sign in</button></div>
      </form>`,
  };
}

function linkPage(csrf: string, project: string): Page {
  return {
    status: 200,
    title: "Your connected accounts",
    body: html` <p>
        This link opens the list of the accounts that you connected ${projectOf(project)}. Open it once,
        within ten minutes; the page then stays open for a quarter of an hour.
      </p>
      <form method="post">
        <input type="hidden" name="csrf" value="${csrf}" />
        <div class="actions"><button class="main">Open</button></div>
      </form>`,
  };
}

function accountsPage(view: MeView & { kind: "me" }, project: string): Page {
  const { user, connected, csrf } = view;
  return {
    status: 200,
    title: "Your connected accounts",
    body: html` ${doneOf(view.done)}
      <p>You are <strong>${inert(user)}</strong> ${projectOf(project)}.</p>
      ${
        connected.length === 0
          ? html`<p>Nothing is connected.</p>`
          : html`<ul class="cards">
              ${connected.map((one) => cardOf(one, csrf))}
            </ul>`
      }
      <form method="post">
        <input type="hidden" name="csrf" value="${csrf}" />
        <div class="actions"><button name="action" value="leave">Leave this page</button></div>
      </form>`,
  };
}

function cardOf(one: Connected, csrf: string): Markup {
  const id = `account-${one.grant}`;
  return html`<li>
    <h2 id="${id}">${inert(one.connection)}</h2>
    <dl>
      <div>
        <dt>Server</dt>
        <dd>${hostOf(one.serverHost)}</dd>
      </div>
      <div>
        <dt>What you allowed</dt>
        <dd>${scopesOf(one.scopes)}</dd>
      </div>
      <div>
        <dt>Connected</dt>
        <dd>${momentOf(one.connectedAt)}</dd>
      </div>
      <div>
        <dt>Last used</dt>
        <dd>${lastUseOf(one)}</dd>
      </div>
      <div>
        <dt>State</dt>
        <dd>${stateOf(one)}</dd>
      </div>
    </dl>
    <form method="post">
      <input type="hidden" name="csrf" value="${csrf}" />
      <input type="hidden" name="grant" value="${one.grant}" />
      <button name="action" value="disconnect" aria-describedby="${id}">Disconnect</button>
    </form>
  </li>`;
}

function scopesOf(scopes: string[]): Markup | string {
  if (scopes.length === 0) return "Nothing by name";
  return scopeList(scopes);
}

function lastUseOf({ lastUsedAt, lastUsedBy }: Connected): Markup | string {
  if (lastUsedAt === null) return "Never";
  return html`${momentOf(lastUsedAt)}${lastUsedBy === null ? "" : html` by <strong>${inert(lastUsedBy)}</strong>`}`;
}

function stateOf({ status, renewsItself }: Connected): string {
  if (status === "needs_consent") return "It has ended: you will be asked again when it is needed.";
  return renewsItself
    ? "It holds until you disconnect it."
    : "It holds for a while; then you will be asked again.";
}

function doneOf(done: (MeView & { kind: "me" })["done"]): Markup | "" {
  if (done === null) return "";
  const name = html`<strong>${inert(done.connection)}</strong>`;
  return html`<p class="note" role="status">
    ${name} is disconnected: nothing is called with your account any more. ${AFTERWARDS[done.upstream]}
  </p>`;
}

const AFTERWARDS = {
  revoked: "Its server has taken the permission back, too.",
  impossible:
    "Its server offers no way to take the permission back from here: you can do that in your settings there.",
  refused:
    "Its server did not take the permission back when it was told to: you can do that in your settings there.",
  failed:
    "Its server did not answer when it was told to take the permission back, too. It will be told again; to be sure, take the permission back in your settings there.",
} as const;
