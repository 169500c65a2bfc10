import { checkUrl, type EgressRules } from "./egress-rules.ts";
import { limitBody, startWatch, streamOf, tooLarge, type Watch, wholeOf } from "./egress-watch.ts";
import { EgressError, type Egress, type EgressAnswer, type EgressAsk, type EgressLimits } from "./egress.ts";

/** One request on its way out, without redirects and without limits of its own. */
export type OutboundRequest = {
  url: URL;
  method: string;
  headers: Headers;
  body: OutboundBody;
  signal: AbortSignal;
};
export type OutboundBody = string | Uint8Array | AsyncIterable<Uint8Array> | null;

/** What came back. `body` gives decompressed bytes as they come; null: there is none. */
export type InboundAnswer = {
  status: number;
  headers: Headers;
  body: AsyncIterable<Uint8Array> | null;
  /** Gives up on a body that nobody has begun to read. */
  discard: () => void;
};

/**
 * How a runtime sends one request. Rejects with whatever its library throws, or with `EgressError`; when `signal`
 * aborts, both the promise and a body under way reject at once and the connection is given up.
 */
export type Send = (request: OutboundRequest) => Promise<InboundAnswer>;

/** Rules, redirects, time, bytes and depth around a runtime's `send`. */
export function createEgress(options: {
  rules: EgressRules;
  send: Send;
  close: () => Promise<void>;
}): Egress {
  const { rules, send } = options;
  const watches = new Set<Watch>();
  // The rules are what they were when this was made, so that one look at a URL is enough. Where a name leads is looked at anew.
  const allowed = new Map<string, URL>();
  const check = (input: string | URL): URL => {
    const text = String(input);
    const known = allowed.get(text);
    if (known) return known;
    const url = checkUrl(input, rules);
    if (allowed.size >= MAX_ALLOWED) allowed.clear();
    // Servers name URLs of any length.
    if (text.length <= MAX_ALLOWED_CHARS) allowed.set(text, url);
    return url;
  };
  const askWith =
    (limits: EgressLimits, own: { headers: "taken" | "copied" }): EgressAsk =>
    async (input, init = {}) => {
      const url = check(input);
      const hop = readInit(url, init, own);
      const watch = startWatch({ url, limits, callerSignal: init.signal ?? null, watches });
      try {
        return toAnswer(await follow(hop, { rules, send, watch, redirect: init.redirect }), watch);
      } catch (error) {
        throw watch.giveUp(error);
      }
    };
  return {
    ask: (limits) => askWith(limits, { headers: "taken" }),
    fetch:
      (limits) =>
      async (input, init = {}) =>
        toResponse(await askWith(limits, { headers: "copied" })(input, init)),
    close: async () => {
      for (const watch of watches) watch.abort(watch.failure("closed", "was not awaited: the broker stops"));
      await options.close();
    },
  };
}

type Hop = Omit<OutboundRequest, "signal">;

function readInit(url: URL, init: RequestInit, own: { headers: "taken" | "copied" }): Hop {
  const method = (init.method ?? "GET").toUpperCase();
  try {
    const given = init.headers;
    const headers = own.headers === "taken" && given instanceof Headers ? given : new Headers(given);
    // It would decide which name TLS verifies and which site of a shared address answers.
    headers.delete("host");
    return { url, method, headers, body: readBody(init.body ?? null, headers) };
  } catch {
    // The original's message quotes the value, which may be a credential; it is not kept.
    throw refused(url, "cannot be sent these headers or this body");
  }
}

/** The body as something to send; sets its content type, as `fetch` does, where the caller set none. */
function readBody(body: BodyInit | null, headers: Headers): OutboundBody {
  if (body === null || body instanceof Uint8Array) return body;
  if (typeof body === "string" && headers.has("content-type")) return body;
  const read = new Response(body);
  const type = read.headers.get("content-type");
  if (type !== null && !headers.has("content-type")) headers.set("content-type", type);
  if (typeof body === "string" || body instanceof URLSearchParams) return body.toString();
  return read.body && chunksOf(read.body);
}

async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel();
  }
}

/**
 * Sends, and follows redirects within the origin. Another origin gets nothing of the request, not even a connection:
 * headers, session ids and bodies are secrets of this one.
 */
async function follow(
  first: Hop,
  how: { rules: EgressRules; send: Send; watch: Watch; redirect: RequestRedirect | undefined },
): Promise<InboundAnswer> {
  let hop = first;
  for (let redirects = 0; ; redirects++) {
    const answer = await how.send({ ...hop, signal: how.watch.signal });
    const location = REDIRECTS.includes(answer.status) ? answer.headers.get("location") : null;
    if (location === null || how.redirect === "manual") return answer;
    if (how.redirect === "error") throw refused(hop.url, "answered with a redirect");
    if (redirects === MAX_REDIRECTS) throw refused(hop.url, `redirected more than ${MAX_REDIRECTS} times`);
    hop = { ...hop, url: nextUrl(hop, { status: answer.status, location, rules: how.rules }) };
    answer.discard();
  }
}

function nextUrl(
  { url, method, body }: Hop,
  { status, location, rules }: { status: number; location: string; rules: EgressRules },
): URL {
  const next = URL.parse(location, url);
  if (!next) throw refused(url, "redirected to something that is not a URL");
  if (next.origin !== url.origin) {
    throw refused(url, `redirected to another origin (${next.origin}), which is not followed`);
  }
  // 301, 302 and 303 may make a GET of a POST; 307 and 308 ask for the same request again (RFC 9110, 15.4).
  if (!SAFE_METHODS.includes(method) && status !== 307 && status !== 308) {
    throw refused(url, `answered a ${method} with a redirect of status ${status}, which is not followed`);
  }
  if (body !== null && typeof body !== "string" && !(body instanceof Uint8Array)) {
    throw refused(url, "redirected a request whose body cannot be sent again");
  }
  return checkUrl(next, rules);
}

function toAnswer(answer: InboundAnswer, watch: Watch): EgressAnswer {
  const { status, headers } = answer;
  watch.calm();
  if (status < 200 || status > 599) {
    throw watch.failure("closed", `answered with the status ${status}, which HTTP does not have`);
  }
  const announced = answer.body ? Number(headers.get("content-length")) : 0;
  if (announced > watch.limits.maxBytes) throw tooLarge(watch);
  const read = answer.body && limitBody(answer.body, { watch, contentType: headers.get("content-type") });
  if (!read) watch.finish();
  return {
    status,
    headers,
    url: watch.url.href,
    bytes: async () => (read ? wholeOf(read) : new Uint8Array()),
    stream: () => read && streamOf(read, watch),
    discard: () => {
      if (read) watch.abort("not read");
    },
  };
}

function toResponse({ status, headers, url, stream }: EgressAnswer): Response {
  const response = new Response(stream(), { status, headers });
  Object.defineProperty(response, "url", { value: url });
  return response;
}

const refused = (url: URL, what: string) => new EgressError("refused", `${url.host} ${what}.`);

const MAX_ALLOWED = 1_000;
const MAX_ALLOWED_CHARS = 2_048;
const MAX_REDIRECTS = 3;
const REDIRECTS = [301, 302, 303, 307, 308];
const SAFE_METHODS = ["GET", "HEAD"];
