/**
 * Follows redirects like a browser in which `account` is signed in and answers what it is asked, while they stay within
 * `origins`. Gives the first URL outside; nothing is sent there. Throws when a page is shown instead.
 */
export async function walk(
  start: string,
  { origins, account, answer }: { origins: string[]; account: string; answer: "allow" | "decline" },
): Promise<URL> {
  const jar = new Map([
    ["account", account],
    ["answer", answer],
  ]);
  let url = new URL(start);
  for (let hop = 0; hop < MAX_HOPS; hop++) {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(url, { redirect: "manual", headers: { cookie } });
    for (const line of response.headers.getSetCookie()) jar.set(...pairOf(line.split(";")[0] ?? ""));
    const text = await response.text();
    const location = response.headers.get("location");
    if (location === null)
      throw new Error(`the authorization server answered ${response.status}: ${text.slice(0, 300)}`);
    url = new URL(location, url);
    if (!origins.includes(url.origin)) return url;
  }
  throw new Error("the authorization server goes round in circles");
}

/** A cookie as its name and value. */
export function pairOf(text: string): [string, string] {
  const at = text.indexOf("=");
  return [text.slice(0, at), text.slice(at + 1)];
}

const MAX_HOPS = 12;
