/** A page as a browser has it after all redirects. */
export type Page = { url: string; status: number; html: string };

/** A browser without a window: it keeps cookies, follows redirects and presses buttons. */
export type Browser = {
  open: (url: string) => Promise<Page>;
  /** Sends the form that has the button named `action` with this value. Without one: the form whose button has no name. */
  press: (page: Page, action?: string) => Promise<Page>;
};

/** `cookies`: what it has of other origins already, such as a session at an authorization server. */
export function createBrowser(cookies: Record<string, Record<string, string>> = {}): Browser {
  const jars = new Map(
    Object.entries(cookies).map(([origin, jar]) => [origin, new Map(Object.entries(jar))] as const),
  );

  async function go(url: string, init: RequestInit = {}, hops = 0): Promise<Page> {
    if (hops > MAX_HOPS) throw new Error("the pages redirect without end");
    const { origin } = new URL(url);
    const jar = jars.get(origin) ?? new Map<string, string>();
    jars.set(origin, jar);
    const headers = new Headers(init.headers);
    const cookies = [...jar].map(([name, value]) => `${name}=${value}`);
    if (cookies.length > 0) headers.set("cookie", cookies.join("; "));
    const signal = AbortSignal.timeout(PAGE_MS);
    const response = await fetch(url, { ...init, headers, redirect: "manual", signal });
    for (const cookie of response.headers.getSetCookie()) keep(jar, cookie);
    const location = response.headers.get("location");
    const html = await response.text();
    if (location === null || response.status < 300 || response.status > 399) {
      return { url, status: response.status, html };
    }
    return go(new URL(location, url).href, {}, hops + 1);
  }

  return {
    open: (url) => go(url),
    press: (page, action) => {
      const form = formWith(page.html, action);
      if (!form) throw new Error(`${headingOf(page)}: there is nothing to ${action ?? "press"}`);
      const headers = { origin: new URL(page.url).origin, "sec-fetch-site": "same-origin" };
      const pressed = action === undefined ? [] : [["action", action]];
      const body = new URLSearchParams([...form.fields, ...pressed]);
      return go(new URL(form.target, page.url).href, { method: "POST", headers, body });
    },
  };
}

/** What a page says first. */
export function headingOf({ html, status }: Page): string {
  const heading = /<h1[^>]*>([\s\S]*?)<\/h1>/.exec(html)?.[1] ?? "";
  return heading.replaceAll(/<[^>]*>/g, "").trim() || `a page without a heading (HTTP ${status})`;
}

function keep(jar: Map<string, string>, cookie: string): void {
  const [pair = ""] = cookie.split(";");
  const at = pair.indexOf("=");
  if (/;\s*max-age=0\b/i.test(cookie)) jar.delete(pair.slice(0, at));
  else jar.set(pair.slice(0, at), pair.slice(at + 1));
}

type Form = { target: string; fields: [string, string][] };

function formWith(html: string, action: string | undefined): Form | null {
  for (const [, head = "", inside = ""] of html.matchAll(/<form([^>]*)>([\s\S]*?)<\/form>/g)) {
    const buttons = [...inside.matchAll(/<button([^>]*)>/g)].map(([, attributes = ""]) => attributes);
    const has = buttons.some((button) =>
      action === undefined
        ? attribute(button, "name") === null
        : attribute(button, "name") === "action" && attribute(button, "value") === action,
    );
    if (!has) continue;
    const inputs = [...inside.matchAll(/<input([^>]*)>/g)].map(([, attributes = ""]) => attributes);
    const fields = inputs.map((input): [string, string] => [
      attribute(input, "name") ?? "",
      attribute(input, "value") ?? "",
    ]);
    return { target: attribute(head, "action") ?? "", fields };
  }
  return null;
}

function attribute(attributes: string, name: string): string | null {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1];
  return value?.replaceAll(/&(amp|lt|gt|quot|#39);/g, (entity) => ENTITIES.get(entity) ?? entity) ?? null;
}

const ENTITIES = new Map([
  ["&amp;", "&"],
  ["&lt;", "<"],
  ["&gt;", ">"],
  ["&quot;", '"'],
  ["&#39;", "'"],
]);
const MAX_HOPS = 10;
const PAGE_MS = 20_000;
