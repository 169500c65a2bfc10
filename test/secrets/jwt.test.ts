import { createHmac } from "node:crypto";
import {
  base64url,
  CompactEncrypt,
  CompactSign,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type JWTPayload,
  SignJWT,
} from "jose";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import type { IssuerKeys, KeySet, TokenTrust } from "../../src/core/token-verification.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { createTokenVerifier } from "../../src/secrets/jwt.ts";

type Pair = { privateKey: CryptoKey; publicKey: CryptoKey; jwk: JsonObject };
const NOW = Date.UTC(2026, 0, 1);
const SECONDS = NOW / 1000;

let own: Pair;
let other: Pair;
beforeAll(async () => {
  [own, other] = [await makePair("RS256", "own"), await makePair("RS256", "other")];
});

let now = NOW;
let published: KeySet;
let looks: number;
let asked: number;
beforeEach(() => {
  now = NOW;
  published = { keys: [own.jwk] };
  [looks, asked] = [0, 0];
  keys.again = async () => {
    looks++;
    return published;
  };
});

const keys: IssuerKeys = {
  of: async () => {
    asked++;
    return published;
  },
  again: async () => published,
};
const newVerifier = () =>
  createTokenVerifier({ keys, clock: { now: () => now }, crypto: createNodeCrypto() });
const trust: TokenTrust = {
  iss: "https://id.example",
  keys: { issuer: "https://id.example", tenant: null },
  algorithms: ["RS256"],
  audiences: ["broker", "api://broker"],
  clockSkewSeconds: 60,
};
const claims = { iss: trust.iss, aud: "broker", sub: "ann", exp: SECONDS + 3600, iat: SECONDS };
const sign = (payload: JWTPayload = claims, header: object = {}, { privateKey } = own) =>
  new SignJWT(payload).setProtectedHeader({ alg: "RS256", kid: "own", ...header }).sign(privateKey);
const judge = async (token: string | Promise<string>, more: Partial<TokenTrust> = {}) =>
  newVerifier().verify(await token, { ...trust, ...more });
const faultOf = async (...given: Parameters<typeof judge>) => {
  const outcome = await judge(...given);
  return outcome.ok ? "believed" : outcome.fault;
};

async function makePair(alg: string, kid: string): Promise<Pair> {
  const pair = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(pair.publicKey)), kid } as JsonObject; // Seam: a JWK is JSON.
  return { ...pair, jwk };
}

describe("a token of the issuer", () => {
  test("is believed, and says when it ends", async () => {
    expect(await judge(sign())).toEqual({ ok: true, claims, expiresAt: claims.exp * 1000 });
    expect((await judge(sign({ ...claims, aud: ["x", "api://broker"] }))).ok).toBe(true);
  });

  test.each(["RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"] as const)(
    "may be signed by %s where that is allowed, and not elsewhere",
    async (alg) => {
      const pair = await makePair(alg, "own");
      published = { keys: [own.jwk, pair.jwk] };
      const token = await sign(claims, { alg }, pair);
      expect((await judge(token, { algorithms: [alg] })).ok).toBe(true);
      expect(await faultOf(token)).toBe("algorithm");
    },
  );

  test.each(["JWT", "jwt", "at+jwt", "application/at+jwt", "application/jwt"])(
    "may be of type %s",
    async (typ) => expect((await judge(sign(claims, { typ }))).ok).toBe(true),
  );

  test.each(["logout+jwt", "dpop+jwt", "JWS", "secevent+jwt", "oauth-authz-req+jwt", "", "at+jwt; x"])(
    "of type %j was made for something else",
    async (typ) => expect(await faultOf(sign(claims, { typ }))).toBe("type"),
  );

  test("without a kid is tried with the issuer's few keys", async () => {
    published = { keys: [other.jwk, own.jwk] };
    expect((await judge(sign(claims, { kid: undefined }))).ok).toBe(true);
    published = { keys: Array.from({ length: 5 }, () => other.jwk).concat(own.jwk) };
    expect(await faultOf(sign(claims, { kid: undefined }))).toBe("signature");
  });
});

describe("what is wrong with a token", () => {
  test.each([
    ["issuer", { iss: "https://evil.example" }],
    ["issuer", { iss: "https://id.example/" }],
    ["issuer", { iss: undefined }],
    ["audience", { aud: "somebody else" }],
    ["audience", { aud: [] }],
    ["audience", { aud: undefined }],
    ["expired", { exp: SECONDS - 61 }],
    ["claims", { exp: undefined }],
    ["not_yet", { nbf: SECONDS + 61 }],
    ["not_yet", { iat: SECONDS + 61 }],
    ["bound", { cnf: { jkt: "x" } }],
    ["bound", { cnf: null }],
  ] as [string, object][])("%s: %j", async (fault, change) =>
    expect(await faultOf(sign({ ...claims, ...change }))).toBe(fault),
  );

  test("its times, within the skew, are right", async () => {
    const early = { ...claims, nbf: SECONDS + 59, iat: SECONDS + 59, exp: SECONDS - 59 };
    expect((await judge(sign(early))).ok).toBe(true);
    expect(await faultOf(sign(early), { clockSkewSeconds: 0 })).not.toBe("believed");
  });

  test("its times are numbers", async () => {
    const encode = (payload: object) => new TextEncoder().encode(JSON.stringify(payload));
    for (const change of [{ exp: "9999999999" }, { nbf: "1" }, { iat: [] }, { exp: null }]) {
      const token = await new CompactSign(encode({ ...claims, ...change }))
        .setProtectedHeader({ alg: "RS256", kid: "own" })
        .sign(own.privateKey);
      expect([change, await faultOf(token)]).toEqual([change, expect.stringMatching(/claims|not_yet/)]);
    }
  });

  test("it is signed by somebody else, under the issuer's kid or another", async () => {
    expect(await faultOf(sign(claims, {}, other))).toBe("signature");
    expect(await faultOf(sign(claims, { kid: "other" }, other))).toBe("key");
  });

  test("it is signed with nothing, or with the public key as a secret", async () => {
    const body = base64url.encode(JSON.stringify(claims));
    const none = base64url.encode(JSON.stringify({ alg: "none" }));
    expect(await faultOf(`${none}.${body}.`)).toBe("algorithm");
    const head = base64url.encode(JSON.stringify({ alg: "HS256", kid: "own" }));
    for (const secret of [await exportSPKI(own.publicKey), JSON.stringify(own.jwk)]) {
      const mac = createHmac("sha256", secret).update(`${head}.${body}`).digest("base64url");
      expect(await faultOf(`${head}.${body}.${mac}`)).toBe("algorithm");
    }
    expect(asked).toBe(0);
  });

  test("it brings a key of its own, which is not looked at", async () => {
    const jwk = other.jwk;
    for (const header of [
      { jwk },
      { jku: "https://evil.example/keys" },
      { x5u: "https://evil.example/cert" },
    ]) {
      expect(await faultOf(sign(claims, header, other))).toBe("signature");
      expect((await judge(sign(claims, header))).ok).toBe(true);
    }
  });

  test("it has an extension that must be understood", async () => {
    const token = await sign();
    const head = (header: object) =>
      base64url.encode(JSON.stringify({ alg: "RS256", kid: "own", ...header }));
    const [, body, mac] = token.split(".");
    for (const header of [{ crit: ["exp"], exp: 1 }, { crit: ["b64"], b64: false }, { crit: [] }])
      expect(await faultOf(`${head(header)}.${body}.${mac}`)).toBe("critical");
  });

  test.each([
    "../../etc/passwd",
    "https://evil.example/k",
    "' OR 1=1 --",
    "__proto__",
    "constructor",
    "own\0",
  ])("its kid %j is a name like another", async (kid) =>
    expect(await faultOf(sign(claims, { kid }, other))).toBe("key"),
  );

  test("its kid is no text, or endless, and nobody looks for it", async () => {
    const [, body, mac] = (await sign()).split(".");
    for (const kid of [1, {}, ["own"], null, "k".repeat(257)]) {
      const head = base64url.encode(JSON.stringify({ alg: "RS256", kid }));
      expect(await faultOf(`${head}.${body}.${mac}`)).toBe("key");
    }
    expect([asked, looks]).toEqual([0, 0]);
  });

  test("it is huge, encrypted, nested, or no token at all", async () => {
    expect(await faultOf(sign({ ...claims, more: "x".repeat(16_384) }))).toBe("too_large");
    const encrypt = new CompactEncrypt(new TextEncoder().encode(await sign()));
    const header = { alg: "RSA-OAEP-256", enc: "A256GCM", cty: "JWT" };
    const { publicKey } = await generateKeyPair("RSA-OAEP-256");
    expect(await faultOf(encrypt.setProtectedHeader(header).encrypt(publicKey))).not.toBe("believed");
    const nested = new CompactSign(new TextEncoder().encode(await sign()));
    expect(
      await faultOf(nested.setProtectedHeader({ alg: "RS256", kid: "own", cty: "JWT" }).sign(own.privateKey)),
    ).toBe("malformed");
    for (const text of ["", ".", "..", "a.b.c", "e30.e30.", "bnVsbA.e30.x"])
      expect(await faultOf(text)).toMatch(/malformed|algorithm/);
  });
});

describe("the issuer's keys", () => {
  test("are looked at again for a new one, and once", async () => {
    const token = await sign(claims, { kid: "other" }, other);
    keys.again = async () => {
      looks++;
      return { keys: [own.jwk, other.jwk] };
    };
    expect((await judge(token)).ok).toBe(true);
    expect(looks).toBe(1);
  });

  test("that are broken, short, secret or for encryption believe nothing", async () => {
    const n = "n" in own.jwk && typeof own.jwk["n"] === "string" ? own.jwk["n"] : "";
    const broken: JsonObject[] = [
      { kty: "RSA", kid: "own", n: "!", e: "AQAB" },
      { kty: "RSA", kid: "own" },
      { kty: "RSA", kid: "own", n: n.slice(0, 86), e: "AQAB" },
      { kty: "oct", kid: "own", k: n },
      { ...own.jwk, use: "enc" },
      { ...own.jwk, alg: "RS512" },
      { ...own.jwk, key_ops: ["sign"] },
    ];
    for (const jwk of broken) {
      published = { keys: [jwk] };
      keys.again = async () => published;
      expect(await faultOf(sign())).toMatch(/key|signature/);
    }
  });

  test("that cannot be had are nobody's fault, least of all the token's", async () => {
    const away: IssuerKeys = {
      of: () => Promise.reject(new Error("away")),
      again: () => Promise.reject(new Error("away")),
    };
    const verifier = createTokenVerifier({
      keys: away,
      clock: { now: () => now },
      crypto: createNodeCrypto(),
    });
    await expect(verifier.verify(await sign(), trust)).rejects.toThrow("away");
  });
});

describe("a token that was believed", () => {
  test("is believed for five minutes, under the same rules alone", async () => {
    const verifier = newVerifier();
    const token = await sign();
    await verifier.verify(token, trust);
    await verifier.verify(token, trust);
    expect(asked).toBe(1);
    expect(await verifier.verify(token, { ...trust, audiences: ["other"] })).toEqual({
      ok: false,
      fault: "audience",
    });
    expect((await verifier.verify(token, { ...trust, iss: "https://other.example" })).ok).toBe(false);
    published = { keys: [other.jwk] };
    keys.again = async () => published;
    now += 5 * 60_000 - 1;
    expect((await verifier.verify(token, trust)).ok).toBe(true);
    now += 1;
    expect((await verifier.verify(token, trust)).ok).toBe(false);
  });

  test("is never believed beyond its end", async () => {
    const verifier = newVerifier();
    const token = await sign({ ...claims, exp: SECONDS + 100 });
    await verifier.verify(token, { ...trust, clockSkewSeconds: 0 });
    now += 100_000;
    expect(await verifier.verify(token, { ...trust, clockSkewSeconds: 0 })).toEqual({
      ok: false,
      fault: "expired",
    });
  });

  test("is not another one with one character changed", async () => {
    const verifier = newVerifier();
    const token = await sign();
    await verifier.verify(token, trust);
    const [head, , mac] = token.split(".");
    const forged = `${head}.${base64url.encode(JSON.stringify({ ...claims, sub: "bob" }))}.${mac}`;
    expect(await verifier.verify(forged, trust)).toEqual({ ok: false, fault: "signature" });
  });
});
