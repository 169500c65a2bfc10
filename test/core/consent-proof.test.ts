import { describe, expect, test } from "vitest";
import { proofOf } from "../../src/core/consent-proof.ts";
import type { UserId } from "../../src/core/ids.ts";
import { type ConsentProof, DEFAULT_SETTINGS, type Settings } from "../../src/core/project.ts";
import { userOfClaims } from "../../src/core/sign-in-user.ts";

const signIn = { name: "corp", issuer: "https://id.example", clientId: "c" };
const entra = {
  name: "ms",
  issuer: "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0",
  clientId: "c",
};

function judge(given: {
  settings?: Partial<Settings>;
  proof?: ConsentProof | null;
  local?: boolean;
  allowPossession?: string[];
  confirmUrl?: string | null;
  user?: UserId;
}) {
  return proofOf(
    {
      local: given.local ?? false,
      consent: { proof: given.proof ?? null, allowPossession: given.allowPossession ?? [] },
    },
    { name: "shop", settings: { ...DEFAULT_SETTINGS, ...given.settings } },
    { confirmUrl: given.confirmUrl ?? null },
    given.user ?? "app:ada",
  );
}

const messageOf = (judged: ReturnType<typeof judge>) => (judged.ok ? "" : judged.message);
const asserted = (issuer: string, claim: "sub" | "oid" | "email") => ({
  fromBody: true,
  assertedAs: { issuer, claim },
});

describe("which proof a consent asks for", () => {
  test("none set: the message names both settings", () => {
    expect(messageOf(judge({}))).toMatch(/consentProof.*CONSENTRY_CONSENT_PROOF/);
  });

  test("the project's setting goes before the operator's, and there is no fallback", () => {
    const given = { proof: "possession" as const, local: true };
    expect(judge(given)).toEqual({ ok: true, proof: "possession" });
    expect(messageOf(judge({ ...given, settings: { consentProof: "sign-in" } }))).toContain("signIn");
    expect(messageOf(judge({ ...given, settings: { consentProof: "runtime" } }))).toContain("confirmUrl");
  });

  test("sign-in serves users of the realm that the issuer names, and no others", () => {
    const consentProof = "sign-in" as const;
    expect(messageOf(judge({ settings: { consentProof, signIn } }))).toContain("users.assertedAs");
    for (const issuer of [signIn.issuer, signIn.name]) {
      const users = asserted(issuer, "sub");
      expect(judge({ settings: { consentProof, signIn, users } })).toEqual({ ok: true, proof: consentProof });
      // Who signs in there is app:… from then on: corp:… can never come.
      expect(judge({ settings: { consentProof, signIn, users }, user: "corp:1" }).ok).toBe(false);
    }
    const elsewhere = asserted("https://other.example", "sub");
    expect(judge({ settings: { consentProof, signIn, users: elsewhere } }).ok).toBe(false);
    expect(judge({ settings: { consentProof, signIn }, user: "corp:1" }).ok).toBe(true);
    expect(judge({ settings: { consentProof, signIn }, user: "entra:t/o" }).ok).toBe(false);
    expect(judge({ settings: { consentProof, signIn: entra }, user: "entra:t/o" }).ok).toBe(true);
  });

  test("runtime needs the confirmUrl of the key that asks", () => {
    expect(judge({ proof: "runtime", confirmUrl: "https://app.example/ok" }).ok).toBe(true);
    expect(messageOf(judge({ proof: "runtime" }))).toContain("confirmUrl");
  });

  test("runtime confirms names that callers gave, and nobody who came with a token", () => {
    const given = { proof: "runtime" as const, confirmUrl: "https://app.example/ok" };
    expect(messageOf(judge({ ...given, user: "corp:1" }))).toContain('"sign-in"');
  });

  test("possession off loopback is for the projects that the operator names", () => {
    expect(messageOf(judge({ proof: "possession" }))).toContain("CONSENTRY_ALLOW_POSSESSION");
    expect(judge({ proof: "possession", allowPossession: ["shop"] }).ok).toBe(true);
    expect(judge({ proof: "possession", allowPossession: ["shopping"] }).ok).toBe(false);
    expect(judge({ proof: "possession", local: true }).ok).toBe(true);
  });
});

describe("whom a sign-in names", () => {
  const realm = { signIn, users: { assertedAs: null }, issuers: [] };

  test("the issuer's own name and subject", () => {
    expect(userOfClaims(realm, { sub: "1", email: "a@b.example" })).toBe("corp:1");
    expect(userOfClaims(realm, { sub: "" })).toBeNull();
    expect(userOfClaims(realm, { sub: 1 })).toBeNull();
  });

  test("the names that callers assert, by the claim set", () => {
    const by = (claim: "sub" | "oid" | "email") => ({ ...realm, users: asserted(signIn.issuer, claim) });
    expect(userOfClaims(by("sub"), { sub: "ada" })).toBe("app:ada");
    expect(userOfClaims(by("oid"), { sub: "ada", oid: "7" })).toBe("app:7");
    expect(userOfClaims(by("oid"), { sub: "ada" })).toBeNull();
    expect(userOfClaims(by("sub"), { sub: "a\u202Eda" })).toBeNull();
  });

  test("an e-mail address only when it is verified", () => {
    const byEmail = { ...realm, users: asserted(signIn.issuer, "email") };
    expect(userOfClaims(byEmail, { sub: "1", email: "a@b.example", email_verified: true })).toBe(
      "app:a@b.example",
    );
    for (const email_verified of [false, "true", 1, null])
      expect(userOfClaims(byEmail, { sub: "1", email: "a@b.example", email_verified })).toBeNull();
    expect(userOfClaims(byEmail, { sub: "1", email: "a@b.example" })).toBeNull();
  });

  test("Entra's wherever it is: in national clouds, and at an authority that the project names", () => {
    const tid = "11111111-2222-3333-4444-555555555555";
    const of = (authority: string, issuers: Settings["issuers"] = []) =>
      userOfClaims(
        { ...realm, issuers, signIn: { ...entra, issuer: `${authority}/${tid}/v2.0` } },
        { sub: "x", tid, oid: "o" },
      );
    expect(of("https://login.microsoftonline.us")).toBe(`entra:${tid}/o`);
    expect(of("https://login.partner.microsoftonline.cn")).toBe(`entra:${tid}/o`);
    expect(of("https://login.example")).toBe("ms:x");
    const entry = {
      type: "entra" as const,
      name: "ms",
      audiences: ["a"],
      clients: null,
      clockSkewSeconds: 60,
      roles: [],
      confirmUrl: null,
      doneUrl: null,
      authority: "https://login.example",
    };
    expect(of("https://login.example", [{ ...entry, tenants: [tid] }])).toBe(`entra:${tid}/o`);
    expect(of("https://login.example", [{ ...entry, tenants: [tid.replaceAll("1", "9")] }])).toBe("ms:x");
  });

  test("Entra's tenant and object, of its own tenant only", () => {
    const byEntra = { ...realm, signIn: entra };
    const tid = "11111111-2222-3333-4444-555555555555";
    expect(userOfClaims(byEntra, { sub: "x", tid, oid: "o" })).toBe(`entra:${tid}/o`);
    expect(userOfClaims(byEntra, { sub: "x", tid: "other", oid: "o" })).toBeNull();
    expect(userOfClaims(byEntra, { sub: "x", tid })).toBeNull();
    // As a name that callers assert it is of its own tenant, too.
    const asOid = { ...byEntra, users: asserted(entra.name, "oid") };
    expect(userOfClaims(asOid, { tid, oid: "o" })).toBe("app:o");
    expect(userOfClaims(asOid, { tid: "other", oid: "o" })).toBeNull();
  });
});
