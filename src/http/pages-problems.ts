import { type Page, paragraphs } from "./pages.ts";
import { inertText } from "./pages-inert.ts";
import type { Problem } from "./problems.ts";

/** Whether people, not programs, ask for this path. */
export function isPagePath(path: string): boolean {
  return PAGES.test(path);
}

const PAGES = /^\/(?:consent|me|signin|oauth\/callback)(?:\/|$)/;

/** A refusal of HTTP's, for people. */
export function problemPage({ status, message }: Problem): Page {
  return { status, title: TITLES[status] ?? "This did not work", body: paragraphs(inertText(message)) };
}

const TITLES: Record<number, string> = {
  403: "This does not go on here",
  404: "There is nothing at this link",
  405: "This does not work this way",
  413: "That was too much",
  429: "Too many requests",
  500: "Something went wrong here",
  503: "This cannot go on right now",
};
