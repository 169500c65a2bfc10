import { describe, expect, test } from "vitest";
import { type ConnectionDraft, isElsewhere, readConnection } from "../../src/core/connection-rules.ts";
import type { Connection } from "../../src/core/connection.ts";
import { isRefusal } from "../../src/core/errors.ts";
import type { Found } from "../../src/core/oauth-app-rules.ts";
import { tokenServerOf } from "../../src/core/oauth.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";

const TARGET = "https://mcp.example.com/mcp";
const ISSUER = "https://login.example.com";
const TOKEN_URL = `${ISSUER}/token`;

function read(draft: ConnectionDraft, { before = null, found = null }: Reading = {}) {
  return readConnection(
    { target: TARGET, ...draft },
    {
      name: "contoso",
      before,
      mode: before ? "change" : "replace",
      found,
      settings: DEFAULT_SETTINGS,
      checkReference: (ref) => (ref.startsWith("env:OUR_") ? null : "is not lent"),
      checkTarget: (url) => (url.includes("10.0.0.1") ? "10.0.0.1 is private" : null),
      checkAudience: (audience) => (audience === "https://ai.azure.com" ? "is our own" : null),
      at: "properties",
    },
  );
}
type Reading = { before?: Connection | null; found?: Found | null };

function stored(draft: ConnectionDraft, found: Found | null = null): Connection {
  return {
    ...read(draft, { found }).content,
    project: "p",
    name: "contoso",
    id: "conn_1",
    redirectId: null,
    version: 1,
    generation: 1,
    createdAt: 1,
    updatedAt: 1,
  };
}

/** Every fault as `param: message`. */
function faultsOf(draft: ConnectionDraft, reading: Reading = {}): string[] {
  try {
    read(draft, reading);
    return [];
  } catch (error) {
    if (!isRefusal(error, "invalid")) throw error;
    return error.details.faults.map(({ param, message }) => `${param}: ${message}`);
  }
}

describe("identities", () => {
  test.each([
    ["ProjectManagedIdentity", "project"],
    ["AgenticIdentityToken", "agent"],
  ])("%s is the %s's identity, for an audience", (authType, of) => {
    const { content, secrets } = read({ authType, oauth: { audience: "api://contoso" } });
    expect(content.auth).toEqual({ kind: "identity", of, audience: "api://contoso" });
    expect(secrets).toEqual({ kind: "none" });
  });

  test("the audience may stand in metadata, where Foundry's tools write it, and there is one", () => {
    const metadata = { type: "generic_mcp", audience: "api://contoso" };
    const { content } = read({ authType: "ProjectManagedIdentity", metadata });
    expect(content.auth).toMatchObject({ audience: "api://contoso" });
    expect(content.metadata).toEqual({ type: "generic_mcp" });
    expect(
      faultsOf({ authType: "ProjectManagedIdentity", metadata, oauth: { audience: "api://other" } }),
    ).toEqual(["properties.metadata.audience: is another audience than api://other beside it"]);
  });

  test("without an audience, with one of our own, or with somebody's secrets it is refused, all at once", () => {
    expect(faultsOf({ authType: "ProjectManagedIdentity" })[0]).toMatch(/^properties.audience: is required/);
    expect(
      faultsOf({
        authType: "AgenticIdentityToken",
        keys: { Authorization: "x" },
        oauth: { audience: "https://ai.azure.com", clientId: "app", clientSecret: "s" },
      }),
    ).toEqual([
      "properties.credentials: must hold no keys with authType AgenticIdentityToken",
      "properties.audience: is our own",
      "properties.credentials.clientId: must be absent with authType AgenticIdentityToken",
      "properties.credentials.clientSecret: must be absent with authType AgenticIdentityToken",
    ]);
  });

  test("another audience, or another identity, is another place; another time limit is not", () => {
    const before = stored({ authType: "ProjectManagedIdentity", oauth: { audience: "api://contoso" } });
    const after = (draft: ConnectionDraft) => read(draft, { before }).content;
    expect(isElsewhere(before, after({ timeoutMs: 5_000 }))).toBe(false);
    expect(isElsewhere(before, after({ oauth: { audience: "api://other" } }))).toBe(true);
    expect(isElsewhere(before, after({ authType: "AgenticIdentityToken" }))).toBe(true);
    expect(after({ authType: "AgenticIdentityToken" }).auth).toMatchObject({ audience: "api://contoso" });
  });
});

describe("the person's own token", () => {
  test("is exchanged for an audience, with scopes of their own or none", () => {
    const { content } = read({
      authType: "UserEntraToken",
      oauth: { audience: "api://contoso", scopes: ["api://contoso/read", "api://contoso/read"] },
    });
    expect(content.auth).toMatchObject({
      kind: "user_token",
      audience: "api://contoso",
      scopes: ["api://contoso/read"],
      idJag: null,
    });
  });

  test("an ID-JAG needs a client at the server's own authorization server, whose metadata are asked for", () => {
    const draft: ConnectionDraft = {
      authType: "UserEntraToken",
      exchange: "id-jag",
      oauth: { audience: ISSUER, clientId: "app", clientSecret: "s" },
    };
    expect(read(draft).question).toEqual({ kind: "server", issuer: ISSUER });
    const { content, secrets, question } = read(draft, { found: foundServer() });
    expect(question).toBeNull();
    expect(content.auth).toMatchObject({
      idJag: { clientId: "app", clientAuth: "basic", server: { issuer: ISSUER, tokenEndpoint: TOKEN_URL } },
    });
    expect(secrets).toMatchObject({ kind: "client", client: { clientSecret: "s" } });
    expect(faultsOf({ ...draft, oauth: { audience: ISSUER } }).map(paramOf)).toEqual([
      "properties.credentials.clientId",
      "properties.credentials.clientSecret",
    ]);
  });

  test("a client without an ID-JAG, or an exchange without a person, is refused", () => {
    expect(faultsOf({ authType: "UserEntraToken", oauth: { audience: "api://c", clientId: "app" } })).toEqual(
      ['properties.credentials.clientId: is for exchange "id-jag"'],
    );
    expect(faultsOf({ authType: "None", exchange: "id-jag" })).toEqual([
      "properties.exchange: must be absent with authType None",
    ]);
  });
});

describe("client credentials", () => {
  const draft: ConnectionDraft = {
    authType: "OAuth2",
    grantType: "client_credentials",
    oauth: { clientId: "app", clientSecret: "s", tokenUrl: TOKEN_URL },
  };

  test("are a client, its secret and a token URL; nobody is sent anywhere", () => {
    const { content, secrets, question } = read(draft);
    expect(content.auth).toMatchObject({
      kind: "client_credentials",
      client: {
        clientId: "app",
        clientAuth: "basic",
        server: { issuer: ISSUER, issuerAssumed: true, tokenEndpoint: TOKEN_URL },
      },
    });
    expect([secrets.kind, question]).toEqual(["client", null]);
  });

  test("the secret may be kept elsewhere, where the operator lends it, and that is shown", () => {
    const oauth = (ref: string) => ({
      clientId: "app",
      clientSecret: { ref, prefix: "" },
      tokenUrl: TOKEN_URL,
    });
    const lent = stored({ ...draft, oauth: oauth("env:OUR_SECRET") });
    expect(lent.auth).toMatchObject({ references: { clientSecret: "env:OUR_SECRET" } });
    expect(read({ oauth: { scopes: ["read"] } }, { before: lent }).content.auth).toMatchObject({
      references: { clientSecret: "env:OUR_SECRET" },
    });
    expect(faultsOf({ ...draft, oauth: oauth("env:PATH") }).map(paramOf)).toEqual([
      "properties.credentials.clientSecret.ref",
    ]);
  });

  test("without a token URL the issuer's metadata are asked for, else those of the one that guards the server", () => {
    const bare = { clientId: "app", clientSecret: "s" };
    expect(read({ ...draft, oauth: { ...bare, issuer: ISSUER } }).question).toEqual({
      kind: "server",
      issuer: ISSUER,
    });
    expect(read({ ...draft, oauth: bare }).question).toEqual({ kind: "server_of", target: TARGET });
    expect(read({ ...draft, oauth: bare }, { found: foundServer() }).content.auth).toMatchObject({
      client: { server: { issuer: ISSUER, issuerAssumed: false, tokenEndpoint: TOKEN_URL } },
    });
    const nothing: Found = { kind: "server", server: null, why: "the server names none" };
    expect(faultsOf({ ...draft, oauth: bare }, { found: nothing })).toEqual([
      "properties.tokenUrl: must be given: it cannot be found (the server names none)",
    ]);
  });

  test("a client that proves nothing, a connector, and fields for people are refused, all at once", () => {
    const faults = faultsOf({
      ...draft,
      oauth: {
        clientId: "app",
        tokenUrl: "https://10.0.0.1/token",
        connectorName: "github",
        authorizationUrl: `${ISSUER}/authorize`,
        scopes: ["two words"],
      },
    });
    expect(faults.map(paramOf)).toEqual([
      "properties.authorizationUrl",
      "properties.connectorName",
      "properties.scopes[0]",
      "properties.credentials.clientSecret",
      "properties.tokenUrl",
    ]);
  });

  test("a change keeps the secret for the same client at the same place, and for no other", () => {
    const before = stored(draft);
    const change = (oauth: ConnectionDraft["oauth"]) => ({ draft: { oauth }, before });
    const kept = read(change({ scopes: ["read"] }).draft, { before });
    expect(kept.secrets).toEqual({ kind: "keep" });
    expect(kept.content.auth).toMatchObject({ client: { clientId: "app" }, scopes: ["read"] });
    for (const oauth of [{ clientId: "other" }, { tokenUrl: "https://thief.example/token" }]) {
      expect(faultsOf(change(oauth).draft, { before }).map(paramOf)).toContain(
        "properties.credentials.clientSecret",
      );
    }
    const moved = read(change({ tokenUrl: `${ISSUER}/v2/token` }).draft, { before });
    expect(moved.secrets).toEqual({ kind: "keep" });
    expect(isElsewhere(before, moved.content)).toBe(true);
  });

  test("another issuer is looked up again, and the secret does not follow it there", () => {
    const before = stored(
      { ...draft, oauth: { ...draft.oauth, issuer: ISSUER, tokenUrl: null } },
      foundServer(),
    );
    const asked = read({ oauth: { issuer: "https://other.example", clientSecret: "new" } }, { before });
    expect(asked.question).toEqual({ kind: "server", issuer: "https://other.example" });
    const found = foundServer("https://other.example");
    expect(faultsOf({ oauth: { issuer: "https://other.example" } }, { before, found }).map(paramOf)).toEqual([
      "properties.credentials.clientSecret",
    ]);
  });

  test("becoming a connection that asks people needs its own app, and takes no secret along", () => {
    const before = stored(draft);
    const read2 = read({ grantType: null, oauth: {} }, { before });
    expect(read2.content.auth).toMatchObject({
      kind: "oauth",
      source: { kind: "discovery", clientId: null },
    });
    expect(read2.secrets).toEqual({ kind: "none" });
  });
});

function foundServer(issuer = ISSUER): Found {
  const server = tokenServerOf({ issuer, issuerAssumed: false, tokenEndpoint: `${issuer}/token` });
  return { kind: "server", server, why: null };
}

const paramOf = (fault: string) => fault.slice(0, fault.indexOf(":"));
