import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

const CHROMIUM = process.env["CONSENTRY_CHROMIUM"] ?? "/usr/bin/chromium";

/** Chromium without a window. One for each file of tests; every person has a profile of their own in it. */
export type TestBrowser = {
  /**
   * Somebody with an empty profile. `account`: signed in under that name at every authorization server of this machine,
   * where they answer as said.
   */
  person: (options?: { account?: string; answer?: "allow" | "decline"; dark?: boolean }) => Promise<Person>;
  stop: () => Promise<void>;
};

export type Person = {
  page: Page;
  /** What the browser found fault with: blocked content, failed requests, scripts that may not run. */
  complaints: string[];
  /** Hosts that it sent requests to, in order. */
  visited: string[];
  /** Throws if there are complaints. */
  close: () => Promise<void>;
};

export async function startBrowser(): Promise<TestBrowser> {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  return {
    person: (options) => newPerson(browser, options),
    stop: () => browser.close(),
  };
}

async function newPerson(
  browser: Browser,
  {
    account,
    answer = "allow",
    dark = false,
  }: { account?: string; answer?: "allow" | "decline"; dark?: boolean } = {},
): Promise<Person> {
  const context = await browser.newContext({ colorScheme: dark ? "dark" : "light" });
  if (account !== undefined) await signIn(context, { account, answer });
  const page = await context.newPage();
  const complaints: string[] = [];
  const visited: string[] = [];
  page.on("console", (message) => {
    // A status that is no success is no fault of the page.
    if (message.type() === "error" && !message.text().includes("the server responded with a status of"))
      complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => visited.push(new URL(request.url()).host));
  return {
    page,
    complaints,
    visited,
    close: async () => {
      await context.close();
      if (complaints.length > 0) throw new Error(`the browser complains: ${complaints.join("; ")}`);
    },
  };
}

/** Cookies know no ports: these are for all servers of this machine. */
async function signIn(context: BrowserContext, jar: Record<string, string>): Promise<void> {
  await context.addCookies(
    Object.entries(jar).map(([name, value]) => ({ name, value, domain: "127.0.0.1", path: "/" })),
  );
}

export const PHONE = { width: 390, height: 844 };
export const NARROW = { width: 360, height: 740 };
export const DESKTOP = { width: 1280, height: 800 };

/** Keeps pictures of a page, as on a phone and on a desk, in the folder that CONSENTRY_SCREENSHOTS names; else none. */
export async function shoot(page: Page, name: string): Promise<void> {
  const folder = process.env["CONSENTRY_SCREENSHOTS"];
  if (folder === undefined) return;
  await mkdir(folder, { recursive: true });
  for (const [size, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP })) {
    await page.setViewportSize(viewport);
    // Hiding carets would leave a style at every input, which faultsOf counts.
    await page.screenshot({ path: join(folder, `${name}-${size}.png`), fullPage: true, caret: "initial" });
  }
}

/** What is wrong with a page for people on phones, with keyboards and with screen readers. */
export async function faultsOf(page: Page): Promise<string[]> {
  const faults: string[] = [];
  const before = page.viewportSize();
  for (const viewport of [NARROW, DESKTOP]) {
    await page.setViewportSize(viewport);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    if (wide > viewport.width) faults.push(`at ${viewport.width} px it is ${wide} px wide`);
    for (const control of await page.getByRole("button").or(page.getByRole("link")).all()) {
      const box = await control.boundingBox();
      if (!box || box.height < 44) faults.push(`${await control.innerText()} is ${box?.height} px high`);
    }
  }
  if (before) await page.setViewportSize(before);
  const counts: [string, number][] = [
    ["html[lang=en]", 1],
    ["main h1", 1],
    ["h1", 1],
    ["header", 1],
    ["script", 0],
    ["[style]", 0],
    ["input:not([type=hidden])", 0],
  ];
  for (const [selector, expected] of counts) {
    const found = await page.locator(selector).count();
    if (found !== expected) faults.push(`${selector}: ${found}`);
  }
  return [...faults, ...(await unfocused(page))];
}

/** Every control is reached by the Tab key, in order, and shows that it is. */
async function unfocused(page: Page): Promise<string[]> {
  const faults: string[] = [];
  const controls = page.locator("button, a");
  for (let at = 0; at < (await controls.count()); at++) {
    await page.keyboard.press("Tab");
    const control = controls.nth(at);
    const outline = await control.evaluate((node) =>
      document.activeElement === node ? getComputedStyle(node).outlineStyle : "not focused",
    );
    if (outline !== "solid") faults.push(`${await control.innerText()}: ${outline}`);
  }
  return faults;
}
