import { html } from "hono/html";
import type { World } from "../core/ports.ts";
import { inert, inertText, type Markup } from "./pages-inert.ts";

/** A page before it is an answer. */
export type Page = {
  status: number;
  title: string;
  /** After the heading. */
  body: Markup;
  /** What a form of it is answered with may lead to another origin, which `form-action` would forbid. */
  formsLeave?: boolean;
};

/** How pages and redirects leave. `cookies`: `Set-Cookie` lines. */
export type Pages = {
  show: (page: Page, cookies?: readonly string[]) => Response;
  /** 303: whatever the method was, the browser goes there with GET. Throws for a URL that is not http(s) (A9). */
  send: (url: string, cookies?: readonly string[]) => Response;
};

/** HTML without any script, under the strictest policy that lets it work (DESIGN 6). */
export function createPages(about: Pick<World, "publicUrl" | "local">): Pages {
  // On loopback it would bind every other program of this machine to https.
  const hsts = about.publicUrl.startsWith("https:") && !about.local;

  function answer(
    body: string | null,
    status: number,
    more: Record<string, string>,
    cookies: readonly string[],
  ) {
    const headers = new Headers({
      "cache-control": "no-store",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-resource-policy": "same-origin",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      ...(hsts && { "strict-transport-security": "max-age=31536000" }),
      ...more,
    });
    for (const cookie of cookies) headers.append("set-cookie", cookie);
    return new Response(body, { status, headers });
  }

  return {
    show: ({ status, title, body, formsLeave = false }, cookies = []) =>
      answer(
        textOf(layout(title, body)),
        status,
        {
          "content-type": "text/html; charset=utf-8",
          "content-security-policy": formsLeave ? POLICY : `${POLICY}; form-action 'self'`,
        },
        cookies,
      ),
    send: (url, cookies = []) => {
      const protocol = URL.parse(url)?.protocol;
      if (protocol !== "https:" && protocol !== "http:") throw new Error("a redirect to what is not http(s)");
      return answer(null, 303, { location: url, "content-security-policy": POLICY }, cookies);
    },
  };
}

const POLICY =
  "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'";

function layout(title: string, body: Markup): Markup {
  const shown = inertText(title);
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="robots" content="noindex" />
        <title>${shown} · Consentry</title>
        <link rel="icon" href="/pages.svg" type="image/svg+xml" />
        <link rel="stylesheet" href="/pages.css" />
      </head>
      <body>
        <header><img src="/pages.svg" alt="" width="24" height="24" /> Consentry</header>
        <main>
          <h1>${inert(title)}</h1>
          ${body}
        </main>
      </body>
    </html> `;
}

function textOf(markup: Markup): string {
  if (markup instanceof Promise) throw new Error("a page has parts that are not there yet");
  return markup.toString();
}

/** A paragraph for each text. */
export function paragraphs(...texts: (string | Markup)[]): Markup {
  return html`${texts.map((text) => html`<p>${text}</p>`)}`;
}

/** For people with several: the name is an administrator's word. */
export function projectOf(name: string): Markup {
  return html`<span class="quiet">(project ${inert(name)})</span>`;
}

/** What went wrong, as a code of ours. */
export function forHelpers(code: string): Markup {
  return html`<p class="quiet">For whoever helps you: <code>${inert(code)}</code></p>`;
}

/** The same words, whatever the reason: they tell a stranger nothing, and are true for everybody who may read them. */
export const refusedPage: Page = {
  status: 403,
  title: "This does not go on here",
  body: paragraphs(
    "The link is not for this browser, or not for this person, or its time is over.",
    "If this is your link: go on in the browser where you opened it first, and where you are asked to sign in, sign in as yourself. A private window counts as another browser, and so does a browser that blocks cookies.",
    "Or wait ten minutes and ask for a link again.",
  ),
};

export function unusablePage(message: string): Page {
  return {
    status: 503,
    title: "This cannot go on right now",
    body: html`<p>${inertText(message)}</p>
      <p>Try again later. If it stays like this, show this page to whoever runs the service.</p>`,
  };
}
