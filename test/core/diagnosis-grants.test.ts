import { describe, expect, test } from "vitest";
import { type ConnectionAuth, NO_OVERRIDES } from "../../src/core/connection.ts";
import { consentNote, explainEnded } from "../../src/core/diagnosis-grants.ts";
import { tokenVersionHint } from "../../src/core/diagnosis-denials.ts";

const user = "app:ann";
const oauthAuth: ConnectionAuth = {
  kind: "oauth",
  source: { kind: "discovery", issuer: null, clientId: null, clientAuth: null },
  scopes: null,
  overrides: NO_OVERRIDES,
};
const active = { status: "active", reason: null } as const;
const ended = (reason: string) => ({ status: "needs_consent", reason }) as const;

describe("whether somebody is asked for consent", () => {
  test.each([
    [{ kind: "none" }, /authType None .*OAuth2/],
    [{ kind: "key", headerNames: ["X-Key"] }, /one key for all users.*OAuth2/],
    [{ kind: "identity", of: "project", audience: "api://a" }, /as the project's identity/],
    [{ kind: "identity", of: "agent", audience: "api://a" }, /as the agent's identity/],
    [
      {
        kind: "user_token",
        audience: "api://a",
        scopes: null,
        idJag: null,
        resource: "prm",
        overrideReason: null,
      },
      /own token is exchanged/,
    ],
  ] as [ConnectionAuth, RegExp][])("by %j: nobody is, whoever the user is", (auth, why) => {
    expect(consentNote(auth, { user, grant: null })).toMatch(/^Nobody is asked for consent: /);
    expect(consentNote(auth, { user: null, grant: null })).toMatch(why);
  });

  test("by OAuth without a user: nobody is, and the call is refused", () => {
    expect(consentNote(oauthAuth, { user: null, grant: null })).toMatch(
      /names no user.*refused \(400\).*x-ms-user-identity/,
    );
  });

  test("by OAuth: not who has an account, and who has none is told by the diagnosis itself", () => {
    expect(consentNote(oauthAuth, { user, grant: active })).toMatch(
      /^Nobody is asked.*app:ann has connected an account/,
    );
    expect(consentNote(oauthAuth, { user, grant: null })).toBeNull();
  });

  test.each([
    "invalid_grant",
    "token_expired",
    "token_rejected",
    "client_changed",
    "issuer_changed",
    "resource_changed",
  ])("by OAuth: again, whose account ended for the reason %s", (reason) => {
    const note = consentNote(oauthAuth, { user, grant: ended(reason) });
    expect(note).toMatch(/^The next call asks app:ann for consent again: /);
    expect(note).toContain(`(${reason})`);
    expect(explainEnded(user, ended(reason))).toMatchObject({
      cause: "authorization",
      message: expect.stringContaining(reason),
    });
  });

  test("by OAuth: again, who took the account back, and for reasons that are not known here", () => {
    const revoked = { status: "revoked", reason: "refused" } as const;
    expect(consentNote(oauthAuth, { user, grant: revoked })).toContain("it was disconnected");
    expect(consentNote(oauthAuth, { user, grant: ended("odd") })).toContain("its grant has ended (odd)");
  });

  test("a token without a refresh token wants offline_access", () => {
    expect(explainEnded(user, ended("token_expired")).hints.join(" ")).toContain("offline_access");
  });
});

test("an Entra token that was turned down says its version, and others do not", () => {
  const tenant = "11111111-1111-4111-8111-111111111111";
  const principal = { subject: null, clientId: null, tenant };
  const second = { ...principal, issuer: `https://login.microsoftonline.com/${tenant}/v2.0` };
  expect(tokenVersionHint(second)).toMatch(/version 2\.0.*client id/);
  expect(tokenVersionHint({ ...principal, issuer: `https://sts.windows.net/${tenant}/` })).toMatch(
    /version 1\.0.*wants 2/,
  );
  expect(tokenVersionHint({ ...second, tenant: null })).toBeNull();
});
