// Enterprise-managed authorization by the parts of which such a connection is made: the suite's identity provider publishes no
// keys, so that no broker could believe its token, and nobody could call the broker with it.
import type { JsonObject } from "../src/core/json.ts";
import { type OAuthOutcome, TOKEN_TYPES, tokenServerOf } from "../src/core/oauth.ts";
import { parseEgressAllow } from "../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../src/upstream/egress.node.ts";
import { createOAuth } from "../src/upstream/oauth.ts";
import { textOf } from "./broker.ts";
import { createUpstream } from "./upstream.ts";

/** The person's ID token becomes an assertion, the assertion a token, and with that the first tool is called. */
export async function runManaged(url: string, context: JsonObject): Promise<void> {
  const given = (name: string) => textOf(context[name]);
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  const clientInfo = { name: "consentry", version: "0.0.0" };
  const oauth = createOAuth({ egress, clientInfo, urlFault: () => null });
  const signal = AbortSignal.timeout(LIMIT_MS);
  const plain = { params: {}, quirks: null, now: () => Date.now(), scopes: null };
  try {
    const guard = valueOf(await oauth.protectedResource(url, null, signal));
    const [issuer] = guard?.authorizationServers ?? [];
    if (!guard || issuer === undefined) throw new Error("the server names no authorization server");
    const server = valueOf(await oauth.authServer(issuer, signal));
    const { resource } = guard;
    const home = {
      issuer: given("idp_issuer"),
      issuerAssumed: false,
      tokenEndpoint: given("idp_token_endpoint"),
    };
    const assertion = await oauth.exchangeToken(
      {
        ...plain,
        server: tokenServerOf(home),
        client: { clientId: given("idp_client_id"), clientSecret: null, privateKey: null, auth: "none" },
        resource,
        audience: issuer,
        subjectToken: given("idp_id_token"),
        subjectTokenType: TOKEN_TYPES.id_token,
        requestedTokenType: TOKEN_TYPES.id_jag,
      },
      signal,
    );
    const client = { clientId: given("client_id"), clientSecret: given("client_secret"), privateKey: null };
    const { accessToken } = valueOf(
      await oauth.assertionGrant(
        {
          ...plain,
          server: tokenServerOf(server),
          client: { ...client, auth: "basic" },
          resource,
          assertion: valueOf(assertion).accessToken,
        },
        signal,
      ),
    );
    const upstream = createUpstream(url, { authorization: `Bearer ${accessToken}` });
    try {
      const [first] = await upstream.list();
      if (!first) throw new Error("the server has no tools");
      await upstream.call(first.name);
    } finally {
      await upstream.stop();
    }
  } finally {
    await egress.close();
  }
}

const LIMIT_MS = 30_000;

function valueOf<T>(outcome: OAuthOutcome<T>): T {
  if (outcome.ok) return outcome.value;
  throw new Error(JSON.stringify(outcome.failure));
}
