import { describe, expect, test } from "vitest";
import {
  callerOf,
  isClientAllowed,
  lacksGroups,
  subjectOf,
  userOfPrincipal,
} from "../../src/core/callers.ts";
import {
  type EntraIssuer,
  type IssuerMatch,
  issuerOf,
  type OidcIssuer,
  type RoleRule,
} from "../../src/core/issuers.ts";
import { isJsonObject, type JsonObject } from "../../src/core/json.ts";
import { hasTokenHead, isToken } from "../../src/core/token-peek.ts";

const TENANT = "aaaabbbb-2222-4333-8444-555555555555";
const OTHER = "99999999-2222-4333-8444-555555555555";
const rules = {
  audiences: ["broker"],
  clients: null,
  clockSkewSeconds: 60,
  roles: [] as RoleRule[],
  confirmUrl: null,
  doneUrl: null,
};
const entra: EntraIssuer = {
  ...rules,
  type: "entra",
  name: "corp",
  tenants: [TENANT],
  authority: "https://login.microsoftonline.com",
};
const oidc: OidcIssuer = {
  ...rules,
  type: "oidc",
  name: "acme",
  issuer: "https://id.example",
  algorithms: ["RS256"],
  delegated: { claim: "https://id.example/kind", value: "user" },
  exchange: null,
};

const match = (entry: EntraIssuer | OidcIssuer): IssuerMatch => ({
  entry,
  keysOf: "https://id.example",
  tenant: entry.type === "entra" ? TENANT : null,
});
const subject = (entry: EntraIssuer | OidcIssuer, claims: JsonObject) =>
  subjectOf(match(entry), { assertedAs: null }, claims);
/** Claims as they come out of a token: `__proto__` is a name like others there. */
const claimsIn = (text: string): JsonObject => {
  const claims: unknown = JSON.parse(text);
  if (!isJsonObject(claims)) throw new Error("no claims");
  return claims;
};

describe("the issuer that a token names", () => {
  test.each([
    ["https://id.example", "acme"],
    [`https://login.microsoftonline.com/${TENANT}/v2.0`, "corp"],
    [`https://sts.windows.net/${TENANT}/`, "corp"],
  ])("%s is known", (iss, name) => expect(issuerOf([oidc, entra], iss)?.entry.name).toBe(name));

  test.each([
    "https://id.example/",
    "https://ID.example",
    "https://id.example.evil.example",
    `https://login.microsoftonline.com/${OTHER}/v2.0`,
    `https://login.microsoftonline.com/${TENANT}/v2.0/`,
    `https://login.microsoftonline.com/${TENANT.toUpperCase()}/v2.0`,
    "https://login.microsoftonline.com/{tenantid}/v2.0",
    "https://login.microsoftonline.com/common/v2.0",
    `https://sts.windows.net/${TENANT}`,
    "",
  ])("%s is not", (iss) => expect(issuerOf([oidc, entra], iss)).toBeNull());

  test("says whose keys count: of both versions the tenant's own", () => {
    const keysOf = `https://login.microsoftonline.com/${TENANT}/v2.0`;
    for (const iss of [keysOf, `https://sts.windows.net/${TENANT}/`])
      expect(issuerOf([entra], iss)).toMatchObject({ keysOf, tenant: TENANT });
  });
});

describe("who stands behind a token", () => {
  const person = { tid: TENANT, oid: "o", scp: "access", azp: "spa" };

  test("of Entra is a person where scp is there and it is not an application's", () => {
    const user = { kind: "person", user: `entra:${TENANT}/o` };
    expect(subject(entra, person)).toEqual(user);
    expect(subject(entra, { ...person, idtyp: "user" })).toEqual(user);
    for (const doubt of [{ idtyp: "app" }, { idtyp: null }, { scp: "" }, { scp: ["access"] }])
      expect(subject(entra, { ...person, ...doubt })).toMatchObject({ kind: "application", client: "spa" });
    expect(subject(entra, { ...person, tid: OTHER })).toEqual({ kind: "nobody" });
  });

  test("of another issuer is a person by its rule alone, whose claim's name is no path", () => {
    const kind = "https://id.example/kind";
    expect(subject(oidc, { sub: "1", [kind]: "user" })).toEqual({ kind: "person", user: "acme:1" });
    expect(subject(oidc, { sub: "1", [kind]: ["user", "x"] })).toMatchObject({ kind: "person" });
    for (const doubt of [{ [kind]: "users" }, { [kind]: { user: true } }, { kind: "user" }, {}])
      expect(subject(oidc, { sub: "1", ...doubt })).toMatchObject({ kind: "application" });
    const dotted = { ...oidc, delegated: { claim: "a.b", value: null } };
    expect(subject(dotted, { sub: "1", a: { b: "x" } })).toMatchObject({ kind: "application" });
    expect(subject(dotted, { sub: "1", "a.b": "x" })).toMatchObject({ kind: "person" });
    for (const absent of [null, false, "", []])
      expect(subject(dotted, { sub: "1", "a.b": absent })).toMatchObject({ kind: "application" });
    expect(subject({ ...oidc, delegated: null }, { sub: "1", scp: "x" })).toMatchObject({
      kind: "application",
    });
  });

  test("is no application by a person's sign-in, of which an ID token tells", () => {
    const scoped = { ...oidc, delegated: { claim: "scope", value: null } };
    for (const name of ["nonce", "at_hash", "c_hash"]) {
      expect(subject(scoped, { sub: "1", azp: "spa", [name]: "x" })).toEqual({ kind: "nobody" });
      expect(subject(scoped, { sub: "1", azp: "spa", scope: "chat", [name]: "x" })).toMatchObject({
        kind: "person",
      });
    }
    expect(subject(entra, { tid: TENANT, oid: "o", sub: "s", roles: ["Runtime"] })).toEqual({
      kind: "nobody",
    });
  });

  test("is nobody by what is in every object, or by an endless name", () => {
    const inherited = { ...oidc, delegated: { claim: "constructor", value: null } };
    expect(subject(inherited, claimsIn('{"sub":"1"}'))).toMatchObject({ kind: "application" });
    const own = { ...oidc, delegated: { claim: "__proto__", value: "user" } };
    expect(subject(own, claimsIn('{"sub":"1","__proto__":"user"}'))).toMatchObject({ kind: "person" });
    expect(subject(oidc, {})).toEqual({ kind: "nobody" });
    expect(subject(oidc, { azp: "x".repeat(257) })).toEqual({ kind: "nobody" });
    expect(subject(oidc, { azp: "a\nb" })).toEqual({ kind: "nobody" });
  });

  test("is a principal that no key and no other kind can be", () => {
    const of = (entry: EntraIssuer | OidcIssuer, claims: JsonObject) => {
      const found = subject(entry, claims);
      if (found.kind === "nobody") throw new Error("nobody");
      const issuer = { name: entry.name, iss: "https://id.example", roles: [] };
      return callerOf(found, { project: "p", issuer, claims }).principal;
    };
    expect(of(entra, person)).toBe(`user:entra:${TENANT}/o`);
    expect(of(oidc, { azp: "batch", sub: "s" })).toBe("client:acme:batch");
    expect(of(oidc, { client_id: "batch", sub: "s" })).toBe("client:acme:batch");
    expect(of(oidc, { sub: "batch" })).toBe("subject:acme:batch");
    expect(userOfPrincipal(`user:entra:${TENANT}/o`)).toBe(`entra:${TENANT}/o`);
    for (const other of ["key:user:x:y", "client:acme:user:a:b", "user:", "user:x"])
      expect(userOfPrincipal(other)).toBeNull();
  });
});

describe("what a token is given", () => {
  const given = (claims: JsonObject, ...roles: RoleRule[]) => {
    const subject = { kind: "application" as const, client: "c", subject: null };
    const caller = callerOf(subject, { project: "p", issuer: { name: "acme", iss: "i", roles }, claims });
    return [caller.roles, caller.rights];
  };
  const rule = (claim: string, value: string): RoleRule => ({
    claim,
    value,
    roles: ["admin"],
    rights: ["act_for_users"],
  });

  test.each([
    ["a list that holds the value", { roles: ["a", "Admin"] }, rule("roles", "Admin")],
    ["a text that is it", { role: "Admin" }, rule("role", "Admin")],
    ["a word of a scope", { scp: "read Admin" }, rule("scp", "Admin")],
    ["a word of a scope by its other name", { scope: "Admin" }, rule("scope", "Admin")],
    ["a truth", { is_admin: true }, rule("is_admin", "true")],
  ])("is by %s", (_, claims, one) => expect(given(claims, one)).toEqual([["admin"], ["act_for_users"]]));

  test.each([
    ["a text that holds the value", { role: "Admin2 Admin" }, rule("role", "Admin")],
    ["half a word of a scope", { scp: "Admin.Read" }, rule("scp", "Admin")],
    ["a value in another case", { roles: ["admin"] }, rule("roles", "Admin")],
    ["a list in a list", { roles: [["Admin"]] }, rule("roles", "Admin")],
    ["a number", { level: 1 }, rule("level", "1")],
    ["an object", { roles: { Admin: true } }, rule("roles", "Admin")],
    ["what every object has", {}, rule("constructor", "Admin")],
  ])("is not by %s", (_, claims, one) => expect(given(claims, one)).toEqual([[], []]));

  test("is all that any rule gives, once", () => {
    const runtime: RoleRule = { claim: "roles", value: "R", roles: ["runtime", "admin"], rights: [] };
    expect(given({ roles: ["R", "Admin"] }, rule("roles", "Admin"), runtime)).toEqual([
      ["admin", "runtime"],
      ["act_for_users"],
    ]);
  });

  test("is not by groups that were left out, which somebody should know", () => {
    const claims = { _claim_names: { groups: "src1" } };
    expect(lacksGroups({ ...entra, roles: [rule("groups", "g")] }, claims)).toBe(true);
    expect(lacksGroups({ ...entra, roles: [rule("roles", "g")] }, claims)).toBe(false);
    expect(lacksGroups({ ...entra, roles: [rule("groups", "g")] }, { groups: ["g"] })).toBe(false);
  });
});

test("of several names of its client each must be allowed", () => {
  const held = { ...oidc, clients: ["a", "b"] };
  expect(isClientAllowed(held, { azp: "a", client_id: "b" })).toBe(true);
  expect(isClientAllowed(held, { azp: "a", client_id: "c" })).toBe(false);
  expect(isClientAllowed(held, { sub: "a" })).toBe(false);
  expect(isClientAllowed(oidc, {})).toBe(true);
});

test("a token is told from a key and from a name by how it begins", () => {
  const head = btoa('{"alg":"none"}').replaceAll("=", "");
  expect(isToken(`${head}.e30.`)).toBe(true);
  for (const text of [
    head,
    `${head}.e30`,
    `${head}.e30.a.b.c`,
    "csk_abc",
    "a.b.c",
    `${btoa("{}")}.e30.x`,
    "e30.e30.x",
  ])
    expect([text, isToken(text)]).toEqual([text, false]);
  for (const text of [`${head}.`, `${head}.e30`, `${head}.e30.a.b.c`]) expect(hasTokenHead(text)).toBe(true);
  for (const name of ["ann", "ann@example.com", "a.b.c", "", ".", head])
    expect(hasTokenHead(name)).toBe(false);
});
