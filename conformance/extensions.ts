// Three scenarios that prove nothing about the broker: they show the SDK's own
// providers over our egress. They are here so that the run is whole, and a change in the suite or in the SDK is seen.
import {
  Client,
  DpopSession,
  StreamableHTTPClientTransport,
  UnauthorizedError,
  type OAuthClientProvider,
  type OAuthDiscoveryState,
  type StoredOAuthClientInformation,
  type StoredOAuthTokens,
} from "@modelcontextprotocol/client";
import type { JsonObject } from "../src/core/json.ts";
import { parseEgressAllow } from "../src/upstream/egress-allow.ts";
import type { EgressFetch } from "../src/upstream/egress.ts";
import { createNodeEgress } from "../src/upstream/egress.node.ts";
import { textOf } from "./broker.ts";

type Given = (name: string) => string;
/** Who asks for tokens, and for those who ask a person: what the authorization server sent the person back with. */
type Asking = { provider: OAuthClientProvider; callback?: () => URLSearchParams };

// Each client belongs to whichever authorization server the scenario's MCP server names: the suite says no other issuer
// that it could be held to. A client of ours would be.
const ASKING: Record<string, (given: Given, fetch: EgressFetch) => Asking> = {
  "auth/dpop": (_, fetch) => createDpopAsking(fetch),
  "auth/dpop-nonce": (_, fetch) => createDpopAsking(fetch),
  "auth/wif-jwt-bearer": (given) => ({ provider: createWorkloadProvider(given) }),
};

/** Runs one of the scenarios `SDK_ONLY`: connects, lists the tools and calls the first. Throws when any of it fails. */
export async function runExtension(
  scenario: string,
  { url, context }: { url: string; context: JsonObject },
): Promise<void> {
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  const fetch = egress.fetch(LIMITS);
  const asking = ASKING[scenario]?.((name) => textOf(context[name]), fetch);
  if (!asking) throw new Error(`there is nothing to do for ${scenario}`);
  try {
    const client = await connect(new URL(url), { ...asking, fetch });
    const [first] = (await client.listTools()).tools;
    if (!first) throw new Error("the server has no tools");
    await client.callTool({ name: first.name, arguments: {} });
    await client.close();
  } finally {
    await egress.close();
  }
}

/** Connects; where a person has to be asked, the first attempt does that, and the second has the tokens. */
async function connect(
  url: URL,
  { provider, callback, fetch }: Asking & { fetch: EgressFetch },
): Promise<Client> {
  const attempt = async () => {
    const client = new Client(CLIENT, { versionNegotiation: { mode: "auto" } });
    const transport = new StreamableHTTPClientTransport(url, { authProvider: provider, fetch });
    try {
      await client.connect(transport);
      return client;
    } catch (error) {
      if (!callback || !(error instanceof UnauthorizedError)) throw error;
      await transport.finishAuth(callback());
      return null;
    }
  };
  const client = (await attempt()) ?? (await attempt());
  if (!client) throw new Error("the server wants a person asked twice");
  return client;
}

/** Authorization code with tokens bound to a key (RFC 9449). The authorization server says yes by itself. */
function createDpopAsking(fetch: EgressFetch): Asking {
  const session = DpopSession.create();
  const state = crypto.randomUUID();
  let client: StoredOAuthClientInformation | undefined;
  let tokens: StoredOAuthTokens | undefined;
  let discovered: OAuthDiscoveryState | undefined;
  let verifier = "";
  let callback = new URLSearchParams();
  return {
    callback: () => callback,
    provider: {
      redirectUrl: REDIRECT,
      clientMetadata: { client_name: CLIENT.name, redirect_uris: [REDIRECT] },
      dpop: () => session,
      state: () => state,
      clientInformation: () => client,
      saveClientInformation: (saved) => void (client = saved),
      tokens: () => tokens,
      saveTokens: (saved) => void (tokens = saved),
      discoveryState: () => discovered,
      saveDiscoveryState: (saved) => void (discovered = saved),
      codeVerifier: () => verifier,
      saveCodeVerifier: (saved) => void (verifier = saved),
      redirectToAuthorization: async (url) => {
        const response = await fetch(url, { redirect: "manual" });
        await response.body?.cancel();
        callback = new URL(response.headers.get("location") ?? "", REDIRECT).searchParams;
        // The SDK exchanges a code whatever `state` comes with it.
        if (callback.get("state") !== state) throw new Error("another state came back");
      },
    },
  };
}

/** A workload that presents its platform's own JWT (RFC 7523, section 2.1): no secret, and no second attempt. */
function createWorkloadProvider(given: Given): OAuthClientProvider {
  let tokens: StoredOAuthTokens | undefined;
  let asked = false;
  const none = () => {
    throw new Error("there is no person to ask");
  };
  return {
    redirectUrl: undefined,
    clientMetadata: { redirect_uris: [], token_endpoint_auth_method: "none" },
    clientInformation: () => ({ client_id: given("client_id") }),
    tokens: () => tokens,
    saveTokens: (saved) => void (tokens = saved),
    prepareTokenRequest: (scope) => {
      // The SDK asks again after `invalid_grant`; the same assertion would only be refused again.
      if (asked) throw new Error("the assertion was refused");
      asked = true;
      const request = { grant_type: JWT_BEARER, assertion: given("valid_jwt") };
      return new URLSearchParams(scope === undefined ? request : { ...request, scope });
    },
    redirectToAuthorization: none,
    saveCodeVerifier: none,
    codeVerifier: none,
  };
}

const CLIENT = { name: "consentry", version: "0.0.0" };
// Nobody listens there: the browser is the fetch that reads where it would be sent.
const REDIRECT = "http://127.0.0.1:8787/oauth/callback/conformance";
const JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";
// A session's stream of its own may stay open as long as the scenario.
const LIMITS = { totalMs: null, idleMs: 30_000, maxBytes: 4 * 1024 * 1024, maxDepth: 64 };
