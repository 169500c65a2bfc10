import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Entra, UserToken } from "../../src/core/machine-identity.ts";
import { refused } from "../helpers/azure-authority.ts";
import { selfSigned } from "../helpers/certificate.ts";
import {
  APP,
  APP_OID,
  AUDIENCE,
  never,
  OTHER_TENANT,
  project,
  secretIdentity,
  SECRET,
  shown,
  startTestEntra,
  TENANT,
  type TestEntra,
  tokenOf,
} from "../helpers/entra.ts";

const MIDDLE = "66666666-6666-4666-8666-666666666666";
const CLAIMS = JSON.stringify({ access_token: { acrs: { essential: true, value: "c1" } } });

let entraTest: TestEntra;
let user: UserToken;

beforeAll(async () => {
  entraTest = await startTestEntra();
  user = await entraTest.userToken();
});
beforeEach(() => {
  entraTest.authority.tokens.length = 0;
  entraTest.authority.requests.length = 0;
  entraTest.authority.knobs.answer = () => null;
});
afterAll(() => entraTest.stop());

const make = (identity: Parameters<TestEntra["make"]>[0]["identities"] = { api: secretIdentity }) =>
  entraTest.make({
    identities: identity,
    projects: { sales: project({ onBehalfOf: { identity: "api", app: null } }) },
  });
const exchange = (entra: Entra, more: Partial<Parameters<Entra["onBehalfOf"]>[0]> = {}) =>
  entra.onBehalfOf(
    { project: "sales", user, audience: AUDIENCE, scopes: null, claims: null, fresh: false, ...more },
    never(),
  );
const form = () => entraTest.authority.tokens.at(-1)?.form ?? new URLSearchParams();

describe("on behalf of a user", () => {
  test("their token is exchanged for one for the audience, which is theirs", async () => {
    const minted = await exchange(make());
    expect(minted).toMatchObject({ ok: true, principal: { subject: "ann", clientId: APP, tenant: TENANT } });
    expect(await entraTest.authority.verify(tokenOf(minted))).toMatchObject({ aud: AUDIENCE, oid: "ann" });
    expect(Object.fromEntries(form())).toMatchObject({
      grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
      requested_token_use: "on_behalf_of",
      assertion: user.token,
      client_id: APP,
      client_secret: SECRET,
    });
    expect(form().get("scope")?.split(" ")).toContain(`${AUDIENCE}/.default`);
  });

  test("their token is shown to the authority and nothing else of it is kept or told", async () => {
    const entra = make();
    const minted = await exchange(entra);
    expect(shown(entra)).not.toContain(user.token);
    expect(shown(minted)).not.toContain(user.token);
    for (const { path } of entraTest.authority.requests) expect(path).not.toContain(user.token);
  });

  test("they do not become one of our own identities by it", async () => {
    const entra = make();
    await exchange(entra);
    expect(entra.isOurs({ oid: "ann", scp: "access_as_user", azp: "client" })).toBe(false);
    expect(entra.isOurs({ oid: "ann" })).toBe(false);
  });

  test("two people at once get each their own", async () => {
    const entra = make();
    const token = await entraTest.authority.sign(TENANT, { aud: APP, oid: "bob", sub: "bob", scp: "x" });
    const minted = await Promise.all([exchange(entra), exchange(entra, { user: { ...user, token } })]);
    expect(minted.map((one) => one.ok && one.principal.subject)).toEqual(["ann", "bob"]);
  });

  test("scopes are asked for in full, and none of another resource", async () => {
    const entra = make();
    await exchange(entra, { scopes: ["Files.Read", `${AUDIENCE}/Files.Write`] });
    expect(form().get("scope")?.split(" ")).toEqual(
      expect.arrayContaining([`${AUDIENCE}/Files.Read`, `${AUDIENCE}/Files.Write`]),
    );
    entraTest.authority.tokens.length = 0;
    for (const scope of [
      "https://graph.microsoft.com/.default",
      `${AUDIENCE}.evil/x`,
      "api://other/x",
      `${AUDIENCE}/other/x`,
    ]) {
      expect(await exchange(entra, { scopes: [scope] })).toMatchObject({ ok: false, transient: false });
    }
    expect(entraTest.authority.tokens).toEqual([]);
  });

  test("a certificate proves the application as well", async () => {
    const folder = await mkdtemp(join(tmpdir(), "consentry-entra-"));
    const { key, cert } = selfSigned("app", "rsa");
    const certificateFile = join(folder, "app.pem");
    await writeFile(certificateFile, `${cert}${key}`);
    const api = { type: "certificate", tenantId: TENANT, clientId: MIDDLE, certificateFile } as const;
    entraTest.authority.apps.set(MIDDLE, { oid: "middle", takes: () => true, audiences: [APP] });
    expect((await exchange(make({ api }))).ok).toBe(true);
    expect(form().get("client_assertion")?.split(".")).toHaveLength(3);
    await rm(folder, { recursive: true });
    const gone = await exchange(make({ api }));
    expect(gone).toMatchObject({
      ok: false,
      message: "A file of CONSENTRY_AZURE projects.sales.onBehalfOf cannot be read (ENOENT).",
    });
  });

  test("another identity may vouch for the application", async () => {
    entraTest.authority.apps.set(MIDDLE, {
      oid: "middle",
      audiences: [APP],
      takes: async (assertion) => {
        const { aud, oid } = await entraTest.authority.verify(assertion);
        return aud === "api://AzureADTokenExchange" && oid === APP_OID;
      },
    });
    const entra = entraTest.make({
      identities: { api: secretIdentity },
      projects: {
        sales: project({ onBehalfOf: { identity: "api", app: { tenantId: TENANT, clientId: MIDDLE } } }),
      },
    });
    expect(await exchange(entra)).toMatchObject({
      ok: true,
      principal: { subject: "ann", clientId: MIDDLE },
    });
    expect(form().has("client_secret")).toBe(false);

    entraTest.authority.knobs.answer = (asked) =>
      asked.form.get("client_id") === APP ? refused("invalid_client", 7000215, "canary") : null;
    const unvouched = await exchange(
      entraTest.make({
        identities: { api: secretIdentity },
        projects: {
          sales: project({ onBehalfOf: { identity: "api", app: { tenantId: TENANT, clientId: MIDDLE } } }),
        },
      }),
    );
    expect(unvouched).toMatchObject({ ok: false });
    expect(shown(unvouched)).toContain("the client secret of CONSENTRY_AZURE identities.api is wrong");
  });

  test("Kubernetes' token proves it, too", async () => {
    const folder = await mkdtemp(join(tmpdir(), "consentry-entra-"));
    const tokenFile = join(folder, "token");
    await writeFile(tokenFile, "kubernetes");
    entraTest.authority.apps.set(MIDDLE, {
      oid: "m",
      takes: (given) => given === "kubernetes",
      audiences: [APP],
    });
    const api = { type: "workload", tenantId: TENANT, clientId: MIDDLE, tokenFile } as const;
    expect((await exchange(make({ api }))).ok).toBe(true);
    await rm(folder, { recursive: true });
  });
});

describe("whose tokens are not exchanged", () => {
  test.each<[string, Partial<UserToken>, string]>([
    [
      "of another tenant",
      { tenant: OTHER_TENANT },
      "The user's token is of another tenant than CONSENTRY_AZURE projects.sales.onBehalfOf. Users of that tenant only can be called for.",
    ],
    [
      "of another issuer",
      { tenant: null, issuer: "corp" },
      'The user\'s token is of the issuer "corp", which is not Microsoft Entra; it cannot be exchanged there.',
    ],
    ["that have ended", { expiresAt: 1 }, "The user's token has ended. The user must sign in again."],
  ])("%s", async (_, more, message) => {
    expect(await exchange(make(), { user: { ...user, ...more } })).toEqual({
      ok: false,
      transient: false,
      claims: null,
      message,
    });
    expect(entraTest.authority.requests).toEqual([]);
  });

  test("that were issued for another application", async () => {
    const other = await entraTest.userToken({ aud: "api://somebody-else" });
    const minted = await exchange(make(), { user: other });
    expect(minted).toMatchObject({ ok: false, transient: false });
    expect(shown(minted)).toContain("AADSTS50013");
  });

  test("in a project that has nobody for it", async () => {
    expect(await exchange(make(), { project: "else" })).toMatchObject({
      ok: false,
      message:
        "Nothing exchanges users' tokens for this project: set CONSENTRY_AZURE projects.else.onBehalfOf.",
    });
  });
});

describe("claims", () => {
  test("that a server asked for are asked of the authority", async () => {
    await exchange(make(), { claims: CLAIMS });
    expect(JSON.parse(form().get("claims") ?? "{}")).toMatchObject({
      access_token: { acrs: { essential: true, value: "c1" } },
    });
  });

  test("say that the broker understands such challenges, whether there was one or not", async () => {
    await exchange(make());
    expect(JSON.parse(form().get("claims") ?? "{}")).toMatchObject({
      access_token: { xms_cc: { values: ["cp1"] } },
    });
  });

  test.each(["canary", "[]", "7"])(
    "that are none (%s) are refused before anybody is asked",
    async (claims) => {
      const minted = await exchange(make(), { claims });
      expect(minted).toMatchObject({ ok: false, message: "The server's claims challenge cannot be read." });
      expect(entraTest.authority.tokens).toEqual([]);
    },
  );

  test.each([
    ["interaction_required", 50076],
    ["interaction_required", 53003],
    ["invalid_grant", 50079],
    ["interaction_required", 4242],
  ])("that the authority asks for (%s, AADSTS%i) are passed on as they are", async (error, code) => {
    entraTest.authority.knobs.answer = () => refused(error, code, "canary", { claims: CLAIMS });
    const minted = await exchange(make());
    expect(minted).toMatchObject({ ok: false, transient: false, claims: CLAIMS });
    expect(shown(minted)).toContain(`AADSTS${code}`);
    expect(shown(minted)).not.toContain("canary");
  });

  test("without end are not passed on", async () => {
    entraTest.authority.knobs.answer = () =>
      refused("interaction_required", 50076, "x", { claims: "x".repeat(10_000) });
    expect(await exchange(make())).toMatchObject({ ok: false, claims: null });
  });
});
