import type { WithBrowser, Visitor } from "../core/consent-views.ts";
import { type Cookies, createCookies } from "./cookies.ts";
import { type Form, readForm } from "./forms.ts";
import { createPages, type Page, type Pages, paragraphs, refusedPage } from "./pages.ts";
import { type Answers, type Call, publicRoute, type Route } from "./route.ts";
import type { Deps } from "./routes.ts";

type PageSpec = {
  path: string;
  /** `page` if nothing is said. */
  visit?: "page" | "return";
  summary: string;
  answers?: Answers;
  handle: (call: Call) => Promise<Response>;
};

/** A page to look at. What no person looks at is answered without a look at anything: it must use up and bind nothing. */
export function pageRoute(spec: PageSpec): Route {
  return publicRoute({
    ...described(spec),
    method: "GET",
    handle: (call) => {
      if (call.request.method === "HEAD") return headOf();
      return isForAPerson(call.request.headers) ? spec.handle(call) : headOf(403);
    },
  });
}

/** Browsers say when they load something beside a page, in a frame, or before anybody has asked for it (Fetch Metadata). */
function isForAPerson(headers: Headers): boolean {
  const dest = headers.get("sec-fetch-dest");
  const purpose = headers.get("sec-purpose") ?? headers.get("purpose") ?? "";
  return (dest === null || dest === "document") && !purpose.includes("prefetch");
}

/** A form that a page sends. */
export function formRoute(spec: PageSpec): Route {
  return publicRoute({ ...described(spec), method: "POST" });
}

function described({ path, summary, answers, handle, visit = "page" }: PageSpec) {
  const html = { 200: { description: "A page (text/html)" }, 303: { description: "On to the next page" } };
  return { path, summary, tag: "person", answers: { ...html, ...answers }, visit, handle };
}

function headOf(status = 200): Response {
  return new Response(null, {
    status,
    headers: { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" },
  });
}

/** What the handlers of pages share. */
export type PageDesk = {
  pages: Pages;
  cookies: Cookies;
  visitorOf: (call: Call) => Visitor;
  /** The `Set-Cookie` lines by which a browser is known a little longer. */
  known: (visitor: Visitor, told: WithBrowser<unknown>) => string[];
  /** The form, or the page that says that it is none of ours. */
  formOf: (call: Call) => Promise<(Form & { ok: true }) | { ok: false; answer: Response }>;
};

export function createPageDesk({ world, publicUrl }: Pick<Deps, "world" | "publicUrl">): PageDesk {
  const pages = createPages(world);
  const cookies = createCookies(publicUrl);
  return {
    pages,
    cookies,
    visitorOf: ({ request, requestId }) => ({ browser: cookies.read(request, "browser"), requestId }),
    known: ({ browser }, { setBrowser }) => {
      const value = setBrowser ?? browser;
      return value === null ? [] : [cookies.write("browser", value)];
    },
    formOf: async ({ request }) => {
      const form = await readForm(request, publicUrl);
      if (form.ok) return form;
      return { ok: false, answer: pages.show(form.status === 403 ? refusedPage : strangeFormPage) };
    },
  };
}

export const strangeFormPage: Page = {
  status: 400,
  title: "That form is not known here",
  body: paragraphs("Go back, load the page again, and use its own buttons."),
};
