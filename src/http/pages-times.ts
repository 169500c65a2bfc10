import { html } from "hono/html";
import type { Markup } from "./pages-inert.ts";

/** A moment as people read it, in UTC: a page without scripts does not know where its reader is. */
export function momentOf(at: number): Markup {
  return html`<time datetime="${new Date(at).toISOString()}">${FORMAT.format(at)} UTC</time>`;
}

/** The same without its day, for what is near. */
export function hourOf(at: number): Markup {
  return html`<time datetime="${new Date(at).toISOString()}">${HOUR.format(at)} UTC</time>`;
}

/** How long until then, rounded up: `12 minutes`. */
export function spanUntil(at: number, now: number): string {
  const minutes = Math.max(1, Math.ceil((at - now) / 60_000));
  return minutes === 1 ? "1 minute" : `${minutes} minutes`;
}

const FORMAT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short", timeZone: "UTC" });
const HOUR = new Intl.DateTimeFormat("en-GB", { timeStyle: "short", timeZone: "UTC" });
