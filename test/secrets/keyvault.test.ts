import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createVaults, type Vaults } from "../../src/secrets/keyvault.ts";
import { type AzureAuthority, startAzureAuthority } from "../helpers/azure-authority.ts";
import {
  type AzureVault,
  failed,
  startAzureVault,
  VAULT_AUDIENCE,
  VAULT_TENANT,
} from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";

let azure: AzureHere;
let authority: AzureAuthority;
let vault: AzureVault;
let vaults: Vaults;
let ahead: number;

beforeEach(async () => {
  ahead = 0;
  azure = await startAzure();
  ({ authority, vault } = azure);
  vaults = vaultsOf();
});
afterEach(() => azure.stop());

const vaultsOf = (more: Partial<Parameters<typeof createVaults>[0]> = {}) =>
  createVaults({
    credential: azure.credential(),
    clock: { now: () => Date.now() + ahead },
    privateCloud: { audience: VAULT_AUDIENCE },
    ...more,
  });
const idOf = (name: string, version: string | null = null) => ({ vault: vault.url, name, version });
const value = (name: string, version: string | null = null) => vaults.value(idOf(name, version));
const failure = (kind: string, why: string) => ({
  ok: false,
  failure: { kind, why: expect.stringContaining(why), waitMs: expect.any(Number) },
});

describe("a secret", () => {
  test("is read by the real package: the newest without a version, and each by its own", async () => {
    const old = vault.put("github", "first");
    vault.put("github", "second");
    expect(await value("github")).toEqual({ ok: true, value: "second" });
    expect(await value("github", old)).toEqual({ ok: true, value: "first" });
    expect(vault.asked).toEqual(["GET /secrets/github/", `GET /secrets/github/${old}`]);
    expect(vault.requests[0]?.headers.authorization).toBeUndefined();
    expect(authority.tokens).toHaveLength(1);
    expect(authority.tokens[0]?.form.get("scope")).toContain(`${VAULT_AUDIENCE}/.default`);
  });

  test("has versions in pages, the newest first, without those that may not be used now", async () => {
    const now = Math.floor(Date.now() / 1000);
    const a = vault.put("ring", "a", { created: now - 50 });
    const b = vault.put("ring", "b", { created: now - 40 });
    vault.put("ring", "disabled", { created: now - 30, enabled: false });
    vault.put("ring", "over", { created: now - 20, exp: now - 10 });
    vault.put("ring", "early", { created: now - 10, nbf: now + 60 });
    expect(await vaults.versions(idOf("ring"))).toEqual({ ok: true, value: [b, a] });
    expect(vault.asked).toHaveLength(3);
  });

  test("whose versions are of one second has them in one order for everybody", async () => {
    const versions = ["ee", "11", "cc"].map((digits) => digits.repeat(16));
    for (const version of versions) vault.put("ring", "x", { version, created: 1_700_000_000 });
    expect(await vaults.versions(idOf("ring"))).toEqual({ ok: true, value: versions.toSorted() });
  });

  test("that is missing, forbidden or disabled fails for good, and says what to do", async () => {
    expect(await value("absent")).toEqual(failure("missing", "no such secret (404)"));
    vault.put("off", "x", { enabled: false });
    expect(await value("off")).toEqual(failure("forbidden", "disabled"));
    vault.knobs.answer = () => failed(403, "Forbidden", "ForbiddenByRbac");
    expect(await value("off")).toEqual(
      failure("forbidden", "(403, ForbiddenByRbac); the role that it needs there is Key Vault Secrets User"),
    );
  });
});

describe("a vault in trouble", () => {
  test.each([500, 503, 302])("that answers %i is away, and is asked once", async (status) => {
    vault.knobs.answer = () => ({ status, headers: { location: `${authority.url}/elsewhere` } });
    expect(await value("github")).toEqual(failure("away", `(${status})`));
    expect(vault.asked).toHaveLength(1);
  });

  test("that asks to wait is left alone for as long as it says, by every question", async () => {
    vault.put("github", "x");
    vault.knobs.answer = () => ({ ...failed(429, "Throttled"), headers: { "retry-after": "30" } });
    expect(await value("github")).toEqual(failure("away", "asks to wait (429)"));
    vault.knobs.answer = () => null;
    expect(await vaults.versions(idOf("github"))).toEqual(failure("away", "asks to wait (429)"));
    ahead = 29_000;
    expect(await value("github")).toMatchObject({ ok: false });
    expect(vault.asked).toHaveLength(1);
    ahead = 30_001;
    expect(await value("github")).toEqual({ ok: true, value: "x" });
  });

  test("that asks to wait for a year is asked again within minutes", async () => {
    vault.knobs.answer = () => ({ ...failed(429, "Throttled"), headers: { "retry-after": "31536000" } });
    const outcome = await value("github");
    expect(outcome.ok ? 0 : outcome.failure.waitMs).toBe(600_000);
  });

  test("that does not answer is given up in time, and so is a credential", async () => {
    vaults = vaultsOf({ timeoutMs: 200 });
    vault.put("github", "x");
    vault.knobs.answer = () => "hang";
    expect(await value("github")).toEqual(failure("away", "did not answer within 0.2 seconds"));
    vaults = vaultsOf({ timeoutMs: 200, credential: { getToken: () => new Promise(() => {}) } });
    expect(await value("github")).toEqual(failure("away", "did not answer within 0.2 seconds"));
  });

  test("that is not there, floods, or answers with something else is away", async () => {
    vault.knobs.answer = () => ({ status: 200, body: { value: "x".repeat(1_000_000) } });
    expect(await value("github")).toEqual(failure("away", "too much"));
    vault.knobs.answer = () => ({ status: 200, body: "<html>" });
    expect(await value("github")).toMatchObject({ ok: false, failure: { kind: "away" } });
    vault.knobs.answer = () => ({
      status: 200,
      body: { id: `${vault.url}/secrets/github/x`, attributes: {} },
    });
    expect(await value("github")).toEqual(failure("away", "no value"));
    const nobody = { vault: "https://localhost:9", name: "x", version: null };
    expect(await vaults.value(nobody)).toEqual(failure("away", "does not answer"));
  });

  test("whose pages never end is given up", async () => {
    vaults = vaultsOf({ timeoutMs: 400 });
    const nextLink = `${vault.url}/secrets/ring/versions`;
    vault.knobs.answer = () => ({ status: 200, body: { value: [], nextLink } });
    expect(await vaults.versions(idOf("ring"))).toEqual(failure("away", "did not answer within"));
    const before = vault.asked.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(vault.asked.length - before).toBeLessThan(3);
  });
});

describe("a vault that lies", () => {
  test("about where the next page is does not get our token sent there", async () => {
    const elsewhere = await startAzureVault(authority);
    for (const text of ["a", "b", "c"]) vault.put("ring", text);
    vault.knobs.nextLink = `${elsewhere.url}/secrets/ring/versions`;
    expect(await vaults.versions(idOf("ring"))).toEqual(failure("away", "another host"));
    expect(elsewhere.requests).toEqual([]);
    await elsewhere.stop();
  });

  test("about what it is gets no token: none for another audience is even asked for", async () => {
    for (const resource of ["https://graph.microsoft.com", "https://azure.net", "https://net"]) {
      vault.knobs.challenge = { resource };
      expect(await vaultsOf().value(idOf("x"))).toEqual(failure("away", `not for ${VAULT_AUDIENCE}`));
    }
    expect(authority.tokens).toEqual([]);
  });

  test("about the authority sends nobody there: its host is ours to choose, a foreign tenant is refused", async () => {
    vault.put("github", "x");
    const elsewhere = await startAzureAuthority();
    vault.knobs.challenge = { authorization: `${elsewhere.url}/${VAULT_TENANT}` };
    expect(await value("github")).toEqual({ ok: true, value: "x" });
    expect(elsewhere.requests).toEqual([]);
    vault.knobs.challenge = { authorization: `${authority.url}/44444444-4444-4444-4444-444444444444` };
    const before = authority.tokens.length;
    expect(await vaultsOf().value(idOf("github"))).toMatchObject({ ok: false, failure: { kind: "away" } });
    expect(authority.tokens).toHaveLength(before);
    await elsewhere.stop();
  });

  test("in a public cloud is judged by the package as well: a host that is not below the audience gets nothing", async () => {
    const publicCloud = createVaults({ credential: azure.credential(), clock: Date });
    expect(await publicCloud.value(idOf("x"))).toEqual(failure("away", "could not be asked (Error)"));
    expect(authority.tokens).toEqual([]);
    expect(vault.asked).toEqual([]);
  });
});

test("a broker without an identity is told so, with the code and without the secret", async () => {
  vaults = vaultsOf({ credential: azure.credential("wrong-secret-of-the-broker") });
  const outcome = await value("github");
  expect(outcome).toEqual(
    failure("away", "got no token for it (AuthenticationRequiredError, AADSTS7000215)"),
  );
  expect(JSON.stringify(outcome)).not.toContain("wrong-secret");
});
