// A15: tokens that are forged, borrowed, bent or endless. Each is one dull 401, and the log alone knows why.
import { createHmac } from "node:crypto";
import { base64url, CompactEncrypt, CompactSign, exportSPKI, generateKeyPair } from "jose";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { type AzureAuthority, startAzureAuthority } from "../helpers/azure-authority.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";
import { makeSigningKey, startTokenIssuer, type TokenIssuer } from "../helpers/token-issuer.ts";

let app: TestApp;
let issuer: TokenIssuer;
let authority: AzureAuthority;
/** Where the attacker would like keys to be fetched. */
let evil: HttpServer;
let attacker: Awaited<ReturnType<typeof makeSigningKey>>;
beforeAll(async () => {
  attacker = await makeSigningKey();
  [authority, evil] = await Promise.all([
    startAzureAuthority(),
    startHttpServer((_, response) => response.end(JSON.stringify({ keys: [attacker.jwk] }))),
  ]);
  authority.trust();
});
afterAll(() => Promise.all([authority.stop(), evil.stop()]));
beforeEach(async () => {
  [app, issuer] = await Promise.all([createTestApp(), startTokenIssuer()]);
  await app.makeProject("other");
  await settle("default", [oidc(), entra]);
});
afterEach(async () => {
  await app.stop();
  await issuer.stop();
});

const TENANT = "11111111-2222-4333-8444-555555555555";
const roles = [{ claim: "roles", value: "R", roles: ["runtime", "admin"], rights: ["act_for_users"] }];
const oidc = () => ({
  type: "oidc",
  name: "acme",
  issuer: issuer.issuer,
  audiences: ["broker"],
  clients: ["app"],
  delegated: { claim: "scope", value: "user" },
  roles,
});
let entra = {};
beforeAll(() => {
  entra = {
    type: "entra",
    name: "corp",
    tenants: [TENANT],
    authority: authority.url,
    audiences: ["broker"],
    roles,
  };
});

async function settle(project: string, issuers: object[]): Promise<void> {
  const answer = await app.send("PATCH", `/api/projects/${project}/settings`, { body: { issuers } });
  if (answer.status !== 200) throw new Error(answer.text);
}

const claims = { sub: "ann", azp: "app", scope: "user", roles: ["R"] };
const good = (more: object = {}, header: object = {}, by?: CryptoKey) =>
  issuer.sign({ ...claims, ...more }, header, by);
const now = () => Math.floor(Date.now() / 1000);
const statusOf = async (token: string, project = "default") =>
  (await app.send("GET", `/api/projects/${project}/connections`, { key: token })).status;
const reasons = () =>
  app.logs.filter(({ event }) => event === "token_refused").map(({ fields }) => fields["reason"]);

/**
 * What becomes of a token: as a caller's it is the one dull 401, as a user's in the hands of a caller that may do everything it is
 * nobody's name either. Anything else is told.
 */
async function fateOf(token: string): Promise<unknown> {
  const path = "/api/projects/default/connections";
  const answer = await app.send("GET", path, { key: token });
  const dull = await app.send("GET", path, { key: "csk_nonsense" });
  const passed = await app.send("GET", path, { headers: { "x-ms-user-identity": token } });
  const isDull =
    answer.status === 401 && answer.text === dull.text && answer.headers.get("www-authenticate") === "Bearer";
  const isNobody = passed.status === 400 && passed.text.includes("is not valid here");
  return isDull && isNobody ? REFUSED : [answer.text, passed.text];
}

const REFUSED = "refused";

test("A15: the token that all others are a copy of is good", async () => {
  expect(await statusOf(await good())).toBe(200);
  expect(
    await statusOf(await authority.sign(TENANT, { ...claims, oid: "o", scp: "user", aud: "broker" })),
  ).toBe(200);
});

describe("A15: a signature that is none of the issuer's:", () => {
  const bare = (header: object, body: object = {}) =>
    `${base64url.encode(JSON.stringify(header))}.${base64url.encode(JSON.stringify({ iss: issuer.issuer, aud: "broker", exp: now() + 60, ...claims, ...body }))}`;

  test.each(["none", "None", "NONE", ""])("alg %j", async (alg) => {
    expect(await fateOf(`${bare({ alg })}.`)).toBe(REFUSED);
    expect(await fateOf(`${bare({ alg })}.${(await good()).split(".")[2]}`)).toBe(REFUSED);
  });

  test("HS256 with the public key, in every form of it", async () => {
    const { publicKey, jwk } = issuer.key;
    const spki = await exportSPKI(publicKey);
    for (const secret of [spki, spki.trim(), JSON.stringify(jwk), jwk.n ?? "", ""]) {
      const text = bare({ alg: "HS256", kid: jwk.kid });
      expect(await fateOf(`${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`)).toBe(
        REFUSED,
      );
    }
    expect(new Set(reasons())).toEqual(new Set(["algorithm"]));
  });

  test("another key under the issuer's kid, and a key of its own", async () => {
    expect(await fateOf(await good({}, {}, attacker.privateKey))).toBe(REFUSED);
    expect(await fateOf(await good({}, { kid: attacker.jwk.kid }, attacker.privateKey))).toBe(REFUSED);
    expect(await fateOf(await good({}, { kid: undefined }, attacker.privateKey))).toBe(REFUSED);
  });

  test("another issuer's key: Entra's does not sign for the other, nor the other way round", async () => {
    const iss = `${authority.url}/${TENANT}/v2.0`;
    expect(await fateOf(await good({ iss, tid: TENANT, oid: "o", scp: "user" }))).toBe(REFUSED);
    expect(await fateOf(await authority.sign(TENANT, { ...claims, iss: issuer.issuer, aud: "broker" }))).toBe(
      REFUSED,
    );
  });

  test("a claim changed afterwards", async () => {
    const [head, , mac] = (await good()).split(".");
    const body = bare({}, { sub: "root" }).split(".")[1];
    expect(await fateOf(`${head}.${body}.${mac}`)).toBe(REFUSED);
    expect(await fateOf(`${head}.${body}.`)).toBe(REFUSED);
  });

  test("keys that the header brings or names, which are never fetched", async () => {
    const { jwk, privateKey } = attacker;
    for (const header of [
      { jwk },
      { jku: `${evil.url}/keys` },
      { x5u: `${evil.url}/cert` },
      { x5c: ["MIIB"] },
      { jku: `${evil.url}/keys`, kid: jwk.kid },
      { kid: `${evil.url}/keys` },
    ])
      expect(await fateOf(await good({}, header, privateKey))).toBe(REFUSED);
    expect(evil.requests).toEqual([]);
  });

  test.each([
    "../../../../dev/null",
    "/dev/null",
    "file:///etc/passwd",
    "' UNION SELECT 'secret' --",
    "__proto__",
    "constructor",
    "toString",
    "0",
    "",
  ])("the kid %j", async (kid) =>
    expect(await fateOf(await good({}, { kid }, attacker.privateKey))).toBe(REFUSED),
  );

  test("a kid without end", async () =>
    expect(await fateOf(await good({}, { kid: "k".repeat(5_000) }, attacker.privateKey))).toBe(REFUSED));
});

describe("A15: a token that was not made for this:", () => {
  test.each([
    ["of another audience", { aud: "somebody" }],
    ["of no audience", { aud: undefined }],
    ["of audiences that nearly are", { aud: ["broker ", "BROKER", "broker/"] }],
    ["for the client itself: an ID token of another client", { aud: "app", nonce: "n" }],
    ["of another client", { azp: "other" }],
    ["of a client among others", { client_id: "other" }],
    ["of no client", { azp: undefined }],
    ["of nobody's issuer", { iss: "https://evil.example" }],
    ["of no issuer", { iss: undefined }],
    ["of an issuer that is no text", { iss: ["https://id.example"] }],
    ["that ended", { exp: now() - 120 }],
    ["without an end", { exp: undefined }],
    ["of tomorrow", { nbf: now() + 86_400 }],
    ["made tomorrow", { iat: now() + 86_400 }],
    ["bound to a key, by its thumbprint", { cnf: { jkt: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" } }],
    ["bound to a certificate", { cnf: { "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" } }],
    ["of nobody", { sub: undefined }],
  ])("%s", async (_, change) => expect(await fateOf(await good(change))).toBe(REFUSED));

  test.each(["logout+jwt", "dpop+jwt", "secevent+jwt", "oauth-authz-req+jwt", "token-introspection+jwt"])(
    "of type %s",
    async (typ) => {
      expect(await fateOf(await good({}, { typ }))).toBe(REFUSED);
      expect(await fateOf(await good({}, { typ: `application/${typ}` }))).toBe(REFUSED);
    },
  );

  test("with an extension that must be understood", async () => {
    const [, body = "", mac] = (await good()).split(".");
    const head = base64url.encode(
      JSON.stringify({ alg: "RS256", kid: issuer.key.jwk.kid, crit: ["x"], x: 1 }),
    );
    expect(await fateOf(`${head}.${body}.${mac}`)).toBe(REFUSED);
  });

  test("by us: our own issuers' tokens, and whatever claims to be one", async () => {
    for (const iss of [app.world.publicUrl, `${app.world.publicUrl}/dev/identity`, `${app.world.publicUrl}/`])
      expect(await fateOf(await good({ iss, sub: "project:default", token_use: "workload" }))).toBe(REFUSED);
    expect(new Set(reasons())).toEqual(new Set(["own_issuer"]));
  });

  test("of another tenant, and of a tenant that is in no project", async () => {
    const other = "99999999-2222-4333-8444-555555555555";
    const user = { ...claims, oid: "o", scp: "user", aud: "broker" };
    expect(await fateOf(await authority.sign(other, user))).toBe(REFUSED);
    expect(await fateOf(await authority.sign(TENANT, { ...user, tid: other }))).toBe(REFUSED);
    expect(
      await fateOf(await authority.sign(other, { ...user, iss: `${authority.url}/${TENANT}/v2.0` })),
    ).toBe(REFUSED);
    expect(await fateOf(await authority.sign(TENANT, { ...user, iss: `${authority.url}/common/v2.0` }))).toBe(
      REFUSED,
    );
    expect(
      await fateOf(await authority.sign(TENANT, { ...user, iss: `${authority.url}/{tenantid}/v2.0` })),
    ).toBe(REFUSED);
  });

  test("of another project's issuer", async () => {
    const theirs = await startTokenIssuer();
    await settle("other", [{ ...oidc(), issuer: theirs.issuer }]);
    const token = await theirs.sign(claims);
    expect(await statusOf(token, "other")).toBe(200);
    expect(await fateOf(token)).toBe(REFUSED);
    // The same name in both projects makes no difference, nor does a token that was believed a moment ago.
    expect(await statusOf(await good(), "other")).toBe(401);
    await theirs.stop();
  });
});

describe("A15: what is hard to read:", () => {
  test("a huge token, refused before it is read", async () => {
    for (const length of [13_000, 100_000, 1_000_000]) {
      const token = await good({ more: "x".repeat(length) });
      expect(await statusOf(token)).toBe(401);
      const nested = `${base64url.encode('{"alg":"RS256"}')}.${base64url.encode("[".repeat(length))}.x`;
      expect(await statusOf(nested)).toBe(401);
    }
    expect(issuer.requests.map(({ path }) => path)).toEqual([]);
  });

  test("a token in a token, encrypted or signed", async () => {
    const inner = new TextEncoder().encode(await good());
    const { publicKey } = await generateKeyPair("RSA-OAEP-256");
    const header = { alg: "RSA-OAEP-256", enc: "A256GCM", cty: "JWT", kid: issuer.key.jwk.kid };
    expect(await fateOf(await new CompactEncrypt(inner).setProtectedHeader(header).encrypt(publicKey))).toBe(
      REFUSED,
    );
    const signed = { alg: "RS256", kid: issuer.key.jwk.kid, cty: "JWT" };
    expect(
      await fateOf(await new CompactSign(inner).setProtectedHeader(signed).sign(issuer.key.privateKey)),
    ).toBe(REFUSED);
  });

  test("a body that is no object, or whose members are those of every object", async () => {
    const sign = (text: string) =>
      new CompactSign(new TextEncoder().encode(text))
        .setProtectedHeader({ alg: "RS256", kid: issuer.key.jwk.kid })
        .sign(issuer.key.privateKey);
    for (const text of ["null", "[]", '"x"', "1", "{", '{"__proto__":{"iss":"x"}}'])
      expect(await fateOf(await sign(text))).toBe(REFUSED);
    const base = `"iss":"${issuer.issuer}","aud":"broker","exp":${now() + 60},"azp":"app","scope":"user"`;
    // A role that is only inherited is none: the caller is known, and may do nothing.
    expect(await statusOf(await sign(`{${base},"sub":"ann","__proto__":{"roles":["R"]}}`))).toBe(403);
    expect(await fateOf(await sign(`{${base},"__proto__":{"sub":"ann"}}`))).toBe(REFUSED);
  });
});

describe("A15: keys that change", () => {
  test("a new key works at once, and the old one is not believed for longer than said", async () => {
    const old = await good();
    const { privateKey, jwk } = issuer.key;
    expect(await statusOf(old)).toBe(200);
    await issuer.rotate();
    expect(await statusOf(await good())).toBe(200);
    expect(await statusOf(await good({ sub: "bob" }, { kid: jwk.kid }, privateKey))).toBe(401);
    app.advance(5 * 60_000);
    expect(await statusOf(old)).toBe(401);
    expect(await statusOf(await good())).toBe(200);
  });

  test("a flood of unknown keys asks the issuer once in a while, and stops nobody", async () => {
    expect(await statusOf(await good())).toBe(200);
    const asked = () => issuer.requests.length;
    const before = asked();
    const flood = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        good({ jti: `${n}` }, { kid: `unknown-${n}` }, attacker.privateKey),
      ),
    );
    const statuses = await Promise.all(flood.map((token) => statusOf(token)));
    expect(new Set(statuses)).toEqual(new Set([401]));
    expect(asked() - before).toBe(1);
    for (const token of flood.slice(0, 20)) expect(await statusOf(token)).toBe(401);
    expect(asked() - before).toBe(1);
    expect(await statusOf(await good({ sub: "bob" }))).toBe(200);
    app.advance(30_000);
    expect(await statusOf(flood[0] ?? "")).toBe(401);
    expect(asked() - before).toBe(2);
  });

  test("an issuer that is away makes nobody's token bad", async () => {
    expect(await statusOf(await good())).toBe(200);
    issuer.knobs.status = 500;
    expect(await statusOf(await good({ sub: "bob" }))).toBe(200);
    expect(await statusOf(await good({}, { kid: "new" }))).toBe(503);
    app.advance(10 * 60_000);
    expect(await statusOf(await good({ sub: "carol", iat: now() + 600, exp: now() + 7_200 }))).toBe(200);
    app.advance(60 * 60_000);
    expect(await statusOf(await good({ sub: "dan", exp: now() + 7_200 }))).toBe(503);
  });
});
