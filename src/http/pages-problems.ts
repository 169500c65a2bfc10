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
  if (status === 404) return nowherePage;
  // What stands behind us is for those to know who run it.
  const text = status === 503 ? AWAY : message;
  return { status, title: TITLES[status] ?? "This did not work", body: paragraphs(inertText(text)) };
}

const AWAY = "Something that this page needs does not answer. Please try again in a few minutes.";

/** `/me` and `/consent/` alone end here, too: it says what is missing there. */
const nowherePage: Page = {
  status: 404,
  title: "There is nothing at this link",
  body: paragraphs(
    "The address is not complete, or there is no such page.",
    "A link that connects an account goes on after /consent/ with a long row of letters and digits. The list of your connected accounts is at /me/ and the name of your project, for example /me/default.",
    "Open the link again from where you got it. If you typed or copied it, check that all of it is there.",
  ),
};

const TITLES: Record<number, string> = {
  403: "This does not go on here",
  405: "This does not work this way",
  413: "That was too much",
  429: "Too many requests",
  500: "Something went wrong here",
  503: "This cannot go on right now",
};
