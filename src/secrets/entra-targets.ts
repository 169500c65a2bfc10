import type { EntraTarget } from "./entra-settings.ts";

/**
 * The operator's host-to-audience list (DESIGN 11): why a token for `audience` must not be sent to a URL, or null. Only a URL parser
 * says what a URL's host is; names are compared as it gives them.
 */
export function createTargetFault(
  targets: readonly EntraTarget[],
): (url: string, audience: string) => string | null {
  const entries = targets.map(parseTarget);
  return (text, audience) => {
    const url = URL.parse(text);
    if (!url) return "The connection's target is not a URL.";
    if (url.username !== "" || url.password !== "")
      return "The connection's target holds a user name or password, and is sent no Microsoft Entra token.";
    const isListed = entries.some((entry) => entry.audience === plain(audience) && entry.fits(url));
    if (isListed) return null;
    return (
      `A Microsoft Entra token for ${audience} is not sent to ${url.host}: ` +
      "the operator's list does not name them together. Add both to targets in CONSENTRY_AZURE."
    );
  };
}

function parseTarget({ host, audience }: EntraTarget) {
  const below = host.startsWith("*.") ? host.slice(1) : null;
  const listed = new URL(host.startsWith("http://") ? host : `https://${host.replace(/^\*\./, "")}`);
  const fits = (url: URL) => {
    if (url.protocol !== listed.protocol || url.port !== listed.port) return false;
    if (below === null) return url.hostname === listed.hostname;
    // A host of this name, and something before its dot.
    return url.hostname.endsWith(`.${listed.hostname}`) && url.hostname.length > listed.hostname.length + 1;
  };
  return { audience: plain(audience), fits };
}

/** `https://x/`, `https://x/.default` and `https://x` are one audience. */
const plain = (audience: string) => audience.replace(/\/\.default$/, "").replace(/\/$/, "");
