import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";
import { type HttpServer, startHttpServer } from "./http-server.ts";

type SigningKey = { privateKey: CryptoKey; publicKey: CryptoKey; jwk: JWK & { kid: string } };

/** An OpenID provider as far as those see it who only check its tokens: metadata, keys, and tokens signed as they are given. */
export type TokenIssuer = {
  /** Byte for byte what its metadata says. */
  issuer: string;
  /** What it publishes and signs with. */
  key: SigningKey;
  /** `status`: what it answers instead of anything. */
  knobs: { status: number | null };
  requests: HttpServer["requests"];
  /** `iss`, `aud` (`broker`), `iat` and `exp` unless they are given; a claim that is undefined is left out. */
  sign: (claims?: Record<string, unknown>, header?: object, by?: CryptoKey) => Promise<string>;
  /** From now on another key is published and signs. */
  rotate: () => Promise<void>;
  stop: () => Promise<void>;
};

export async function startTokenIssuer(): Promise<TokenIssuer> {
  const knobs: TokenIssuer["knobs"] = { status: null };
  let key = await makeSigningKey();
  const server = await startHttpServer(({ path }, response) => {
    const answer = answers()[path];
    const status = knobs.status ?? (answer ? 200 : 404);
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer ?? {}));
  });
  const issuer = server.url;
  const answers = (): Record<string, object> => ({
    "/.well-known/openid-configuration": { issuer, jwks_uri: `${issuer}/keys` },
    "/keys": { keys: [key.jwk] },
  });
  return {
    issuer,
    get key() {
      return key;
    },
    knobs,
    requests: server.requests,
    sign: async (claims = {}, header = {}, by = key.privateKey) => {
      const now = Math.floor(Date.now() / 1000);
      const base = { iss: issuer, aud: "broker", iat: now, exp: now + 3600 };
      return new SignJWT({ ...base, ...claims } as JWTPayload) // Seam: what is wrong with claims is what is tested.
        .setProtectedHeader({ alg: "RS256", kid: key.jwk.kid, ...header })
        .sign(by);
    },
    rotate: async () => {
      key = await makeSigningKey();
    },
    stop: server.stop,
  };
}

export async function makeSigningKey(): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair("RS256", { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: crypto.randomUUID(), alg: "RS256", use: "sig" };
  return { privateKey, publicKey, jwk };
}
