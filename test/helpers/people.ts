import type { Response } from "openai/resources/responses/responses";
import { type Browser, createBrowser, headingOf, type Page } from "../../demo/browser.ts";
import type { TestAuthServer } from "./auth-server.ts";
import type { TestWorld } from "./world.ts";

/** A consent item as clients get it. */
export type ConsentItem = {
  type: "oauth_consent_request";
  id: string;
  consent_link: string;
  server_label: string;
};

/** The consent items of a response; `openai` does not know their type. */
export function consentsOf(response: Pick<Response, "output">): ConsentItem[] {
  const items = response.output as unknown as ConsentItem[];
  return items.filter((item) => item.type === "oauth_consent_request");
}

/** The link of the one consent that a response asks for. */
export function linkOf(response: Pick<Response, "output">): string {
  const [item, ...others] = consentsOf(response);
  if (!item || others.length > 0) throw new Error(`not one consent: ${JSON.stringify(response.output)}`);
  return item.consent_link;
}

/** Somebody with a browser, signed in at the authorization server as `account`, who allows there or not. */
export function person(
  server: Pick<TestAuthServer, "issuer">,
  account: string,
  answer: "allow" | "decline" = "allow",
): Browser {
  return createBrowser({ [server.issuer]: { account, answer } });
}

/** Follows a consent link to its end: Allow on our page, then whatever they answer at the authorization server. */
export async function allow(browser: Browser, link: string): Promise<Page> {
  const page = await browser.open(link);
  if (page.status !== 200) throw new Error(`the consent page: ${page.status} ${headingOf(page)}`);
  return browser.press(page, "allow");
}

/** A consent on its way: Allow was pressed in a browser that has `cookie`, and the person has not come back yet. */
export type Underway = { cookie: string; authorizationUrl: URL };

/** Opens a link and presses Allow, and goes no further. */
export async function beginAuthorization(link: string): Promise<Underway> {
  const page = await fetch(link);
  const cookie = page.headers
    .getSetCookie()
    .map((line) => line.split(";")[0])
    .join("; ");
  const csrf = /name="csrf" value="([^"]+)"/.exec(await page.text())?.[1] ?? "";
  const answer = await submit(link, { cookie, form: { action: "allow", csrf } });
  const location = answer.headers.get("location");
  if (location === null) throw new Error(`Allow answered ${answer.status}: ${await answer.text()}`);
  return { cookie, authorizationUrl: new URL(location) };
}

/** Sends one of our forms as a browser would from our own page. */
export function submit(
  url: string,
  { cookie, form, origin }: { cookie: string; form: Record<string, string>; origin?: string },
): Promise<globalThis.Response> {
  return fetch(url, {
    method: "POST",
    redirect: "manual",
    headers: { cookie, origin: origin ?? new URL(url).origin },
    body: new URLSearchParams(form),
  });
}

/** A GET with a browser's cookies, which follows no redirect but the one from a callback to our own page. */
export async function visit(
  url: string | URL,
  cookie = "",
): Promise<{ status: number; text: string; headers: Headers }> {
  const response = await fetch(url, { redirect: "manual", headers: { cookie } });
  const { origin, pathname } = new URL(url);
  const to = response.headers.get("location");
  if (pathname.startsWith("/oauth/callback/") && to?.startsWith(`${origin}/consent/`))
    return visit(to, cookie);
  return { status: response.status, text: await response.text(), headers: response.headers };
}

export type Audited = {
  event: string;
  user: string | null;
  requestId: string;
  detail: Record<string, string>;
};

/** The audit's entries of one event, newest first. */
export async function audited(world: Pick<TestWorld, "rest">, event: string): Promise<Audited[]> {
  const { body } = await world.rest("GET", `/api/projects/default/audit?event=${event}`);
  return body["value"] as unknown as Audited[];
}
