import { html } from "hono/html";
import type { ConsentView } from "../core/consent-views.ts";
import { forHelpers, type Page, paragraphs } from "./pages.ts";
import { hostOf, inert, type Markup } from "./pages-inert.ts";

type Over = ConsentView & { kind: "over" };

/** How a consent ended, in plain words: what happened, and what to do now. */
export function overPage(view: Over): Page {
  if (view.connection === null) return strangerPage(view.status);
  const { connection, serverHost } = view;
  const name = html`<strong>${inert(connection)}</strong>`;
  switch (view.status) {
    case "connected":
      return {
        status: 200,
        title: `Connected to ${connection}`,
        body: html` <p>
            Your account is connected. It is used for
            ${name}${serverHost === null ? "" : html`, at ${hostOf(serverHost)}`}.
          </p>
          <p>
            Go back to where you came from and go on there; ask again if nothing happens. You can close this
            page.
          </p>`,
      };
    case "declined":
      return view.outcome === "access_denied"
        ? {
            status: 200,
            title: "Not connected",
            body: html` <p>
                The server that you signed in at says that you, or one of its administrators, did not allow
                it. Nothing was connected.
              </p>
              <p>If that was a mistake, go back to where you came from and ask again.</p>`,
          }
        : {
            status: 200,
            title: "You declined",
            body: html` <p>${name} was not connected, and nothing was shared.</p>
              <p>
                If you change your mind, go back to where you came from and ask again. You can close this
                page.
              </p>`,
          };
    case "expired":
      return expiredPage;
    case "failed":
      return failedPage(view.outcome, name, connection);
  }
}

const expiredPage: Page = {
  status: 410,
  title: "This link has ended",
  body: paragraphs(
    "Links like this one hold for a short time only. Nothing was connected.",
    "Go back to where you came from and ask again: you will get a new link.",
  ),
};

/** Others learn that it is over, and no more. */
function strangerPage(status: Over["status"]): Page {
  if (status === "expired") return expiredPage;
  return {
    status: 410,
    title: "This link is finished",
    body: paragraphs(
      "It was used already, and works once only.",
      "If you still need to connect something, go back to where you came from and ask again.",
    ),
  };
}

function failedPage(outcome: string | null, name: Markup, connection: string): Page {
  const { happened, now } = FAILURES[outcome ?? ""] ?? UNKNOWN;
  return {
    status: 200,
    title: `${connection} was not connected`,
    body: html` <p>Connecting ${name} did not work. ${happened}</p>
      <p>${now}</p>
      ${forHelpers(outcome ?? "unknown")}`,
  };
}

type Explanation = { happened: string; now: string };

const AGAIN = "Go back to where you came from and ask again: you will get a new link.";
const LATER = "Wait a little, then go back to where you came from and ask again.";
const ADMIN = "Trying again will not help: show this page to whoever set up the connection.";

const TELL = "If it happens again, tell whoever set up the connection.";

const UNKNOWN: Explanation = { happened: "Something went wrong on the way.", now: `${AGAIN} ${TELL}` };
const misset: Explanation = {
  happened: "The server that you signed in at did not accept the request as it is set up here.",
  now: ADMIN,
};
const away: Explanation = {
  happened: "The server that you signed in at is in trouble right now.",
  now: `${LATER} ${TELL}`,
};
const changed: Explanation = {
  happened:
    "The connection was changed while you were on your way, so your permission would have been for something else.",
  now: AGAIN,
};
const signInThere: Explanation = {
  happened: "The server wanted you to sign in or to choose something, and that did not come about.",
  now: `${AGAIN} ${TELL}`,
};

/** By the code of the outcome. Nobody's error text is ever shown: codes are all that is kept of it. */
const FAILURES: Record<string, Explanation> = {
  iss_missing: {
    happened:
      "The answer did not say that it came from the server that you were sent to, so it was thrown away, and nothing was shared.",
    now: `${AGAIN} ${TELL}`,
  },
  iss_mismatch: {
    happened:
      "The answer did not come from the server that you were sent to, or this connection is set up with the wrong name for it. It was thrown away, and nothing was shared.",
    now: `${AGAIN} ${TELL}`,
  },
  access_denied: { happened: "The server says that it was not allowed.", now: AGAIN },
  invalid_scope: {
    happened: "The server does not know, or does not give, the permissions that were asked for.",
    now: ADMIN,
  },
  invalid_request: misset,
  invalid_target: misset,
  unauthorized_client: misset,
  unsupported_response_type: misset,
  client_refused: misset,
  server_error: away,
  temporarily_unavailable: away,
  transient: {
    happened: "The server that you signed in at could not be reached to finish.",
    now: `${LATER} ${TELL}`,
  },
  exchange_failed: {
    happened:
      "The server that you signed in at did not hand over the permission, or its answer could not be trusted.",
    now: `${AGAIN} ${TELL}`,
  },
  code_missing: {
    happened: "The server sent you back without the permission.",
    now: `${AGAIN} ${TELL}`,
  },
  authorization_error: {
    happened: "The server that you signed in at sent you back with an error.",
    now: `${AGAIN} ${TELL}`,
  },
  interaction_required: signInThere,
  login_required: signInThere,
  account_selection_required: signInThere,
  consent_required: signInThere,
  client_renewed: {
    happened: "The server had forgotten who we are. That has been mended.",
    now: AGAIN,
  },
  proof_changed: {
    happened: "How people show here who they are was changed meanwhile.",
    now: AGAIN,
  },
  client_changed: changed,
  connection_changed: changed,
  connection_deleted: { happened: "The connection was removed.", now: "There is nothing more to do here." },
  disconnected: {
    happened: "The permission was taken back while you were on your way.",
    now: "If that was a mistake, go back to where you came from and ask again: you will get a new link.",
  },
  user_blocked: {
    happened: "Your access here was stopped by an administrator.",
    now: "Ask whoever runs the service.",
  },
};
