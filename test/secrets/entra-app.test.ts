import { createPublicKey, X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jwtVerify } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { MachineIdentity } from "../../src/core/machine-identity.ts";
import { refused } from "../helpers/azure-authority.ts";
import { selfSigned } from "../helpers/certificate.ts";
import {
  APP,
  APP_OID,
  AUDIENCE,
  never,
  project,
  secretIdentity,
  SECRET,
  shown,
  startTestEntra,
  TENANT,
  type TestEntra,
  tokenOf,
} from "../helpers/entra.ts";

let entraTest: TestEntra;
let folder: string;
const sales: MachineIdentity = { kind: "project", project: "sales" };
const byName = (name: string) => ({ sales: project({ identity: name }) });
const request = { identity: sales, audience: AUDIENCE, fresh: false };

beforeAll(async () => {
  entraTest = await startTestEntra();
  folder = await mkdtemp(join(tmpdir(), "consentry-entra-"));
});
afterEach(() => {
  const { authority } = entraTest;
  authority.knobs.answer = () => null;
  authority.tokens.length = 0;
  authority.requests.length = 0;
});
afterAll(async () => {
  await entraTest.stop();
  await rm(folder, { recursive: true });
});

const withSecret = (env?: Record<string, string>) =>
  entraTest.make({ identities: { main: secretIdentity }, projects: byName("main") }, env);

describe("a client secret", () => {
  test("gives the project's identity a token for the audience, and says whose it is", async () => {
    const minted = await withSecret().token(request, never());
    expect(minted).toMatchObject({
      ok: true,
      principal: {
        issuer: `${entraTest.authority.url}/${TENANT}/v2.0`,
        subject: APP_OID,
        clientId: APP,
        tenant: TENANT,
      },
    });
    expect(await entraTest.authority.verify(tokenOf(minted))).toMatchObject({ aud: AUDIENCE, azp: APP });
    const [asked] = entraTest.authority.tokens;
    expect(asked?.tenant).toBe(TENANT);
    expect(Object.fromEntries(asked?.form ?? [])).toMatchObject({
      grant_type: "client_credentials",
      client_id: APP,
      client_secret: SECRET,
      scope: `${AUDIENCE}/.default`,
    });
  });

  test("tells when the token ends", async () => {
    const minted = await withSecret().token(request, never());
    const expiresAt = minted.ok ? minted.expiresAt : 0;
    expect(Math.abs(expiresAt - Date.now() - 3_600_000)).toBeLessThan(10_000);
  });

  test.each([
    ["https://vault.azure.net", "https://vault.azure.net/.default"],
    ["https://vault.azure.net/.default", "https://vault.azure.net/.default"],
    ["https://management.azure.com/", "https://management.azure.com//.default"],
  ])("asks for all of %s", async (audience, scope) => {
    await withSecret().token({ ...request, audience }, never());
    expect(entraTest.authority.tokens[0]?.form.get("scope")).toContain(scope);
  });

  test("is asked for once while its token lives, and again for a fresh one", async () => {
    const entra = withSecret();
    const first = tokenOf(await entra.token(request, never()));
    expect(tokenOf(await entra.token(request, never()))).toBe(first);
    expect(entraTest.authority.tokens).toHaveLength(1);
    expect((await entra.token({ ...request, fresh: true }, never())).ok).toBe(true);
    expect(entraTest.authority.tokens).toHaveLength(2);
  });

  test("asks nobody but the authority, and nothing but its metadata and a token", async () => {
    await withSecret().token(request, never());
    expect(entraTest.authority.requests.map(({ method, path }) => `${method} ${path.split("?")[0]}`)).toEqual(
      [`GET /${TENANT}/v2.0/.well-known/openid-configuration`, `POST /${TENANT}/oauth2/v2.0/token`],
    );
  });

  test("that was replaced is read again after a refusal", async () => {
    const env: Record<string, string> = { APP_SECRET: "canary-old" };
    const entra = withSecret(env);
    expect((await entra.token(request, never())).ok).toBe(false);
    env["APP_SECRET"] = SECRET;
    expect((await entra.token(request, never())).ok).toBe(true);
  });

  test("that is not where the settings say has a sentence of its own, and asks nobody", async () => {
    const minted = await withSecret({}).token(request, never());
    expect(minted).toEqual({
      ok: false,
      transient: false,
      claims: null,
      message: "env:APP_SECRET is not set (CONSENTRY_AZURE identities.main).",
    });
    expect(entraTest.authority.requests).toEqual([]);
  });

  test("may be in a file", async () => {
    const path = join(folder, "secret");
    await writeFile(path, `${SECRET}\n`);
    const main = { ...secretIdentity, clientSecret: `file:${path}` };
    const entra = entraTest.make({ identities: { main }, projects: byName("main") });
    expect((await entra.token(request, never())).ok).toBe(true);
  });
});

describe("a certificate", () => {
  const OLD_APP = "44444444-4444-4444-8444-444444444444";

  test("signs an assertion for the authority", async () => {
    const { key, cert } = selfSigned("app", "rsa");
    const path = join(folder, "app.pem");
    await writeFile(path, `${cert}${key}`);
    const publicKey = createPublicKey(
      new X509Certificate(cert).publicKey.export({ type: "spki", format: "pem" }),
    );
    entraTest.authority.apps.set(OLD_APP, {
      oid: "old-app",
      takes: async (assertion) => {
        const { payload } = await jwtVerify(assertion, publicKey, { clockTolerance: 5 });
        return payload.iss === OLD_APP && payload.sub === OLD_APP;
      },
    });
    const main = { type: "certificate", tenantId: TENANT, clientId: OLD_APP, certificateFile: path } as const;
    const entra = entraTest.make({ identities: { main }, projects: byName("main") });
    const minted = await entra.token(request, never());
    expect(minted).toMatchObject({ ok: true, principal: { subject: "old-app", clientId: OLD_APP } });
    const { form } = entraTest.authority.tokens[0] ?? {};
    expect(form?.get("client_assertion_type")).toBe("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    expect(form?.has("client_secret")).toBe(false);
  });

  test.each([
    ["is missing", null],
    ["is none", "canary, not PEM"],
    ["has no key", selfSigned("app", "rsa").cert],
    [
      "has a broken key",
      `${selfSigned("app", "rsa").cert}-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n`,
    ],
  ])("that %s is told as such, without what is in the file", async (_, text) => {
    const path = join(folder, `bad-${crypto.randomUUID()}.pem`);
    if (text !== null) await writeFile(path, text);
    const main = { type: "certificate", tenantId: TENANT, clientId: OLD_APP, certificateFile: path } as const;
    const entra = entraTest.make({ identities: { main }, projects: byName("main") });
    const minted = await entra.token(request, never());
    expect(minted).toMatchObject({ ok: false, transient: false });
    expect(shown(minted)).toContain("CONSENTRY_AZURE identities.main");
    expect(shown(minted)).not.toContain("canary");
    expect(shown(minted)).not.toContain("Y2FuYXJ5");
    expect(entraTest.authority.tokens).toEqual([]);
  });
});

describe("a workload identity", () => {
  const POD = "55555555-5555-4555-8555-555555555555";

  test("shows the token of its file, read again when it was refused", async () => {
    const path = join(folder, "token");
    await writeFile(path, "canary-kubernetes-old\n");
    entraTest.authority.apps.set(POD, {
      oid: "pod",
      takes: (assertion) => assertion === "canary-kubernetes-new",
    });
    const main = { type: "workload", tenantId: TENANT, clientId: POD, tokenFile: path } as const;
    const entra = entraTest.make({ identities: { main }, projects: byName("main") });
    const turnedDown = await entra.token(request, never());
    expect(turnedDown.ok).toBe(false);
    expect(shown(turnedDown)).not.toContain("canary");
    await writeFile(path, "canary-kubernetes-new\n");
    expect(await entra.token(request, never())).toMatchObject({ ok: true, principal: { subject: "pod" } });
  });

  test("finds its file by Kubernetes' variable, and says when there is neither", async () => {
    const path = join(folder, "token");
    await writeFile(path, "canary-kubernetes-new");
    const main = { type: "workload", tenantId: TENANT, clientId: POD, tokenFile: null } as const;
    const settings = { identities: { main }, projects: byName("main") };
    const found = entraTest.make(settings, { AZURE_FEDERATED_TOKEN_FILE: path });
    expect((await found.token(request, never())).ok).toBe(true);
    expect(await entraTest.make(settings, {}).token(request, never())).toMatchObject({
      ok: false,
      message: "env:AZURE_FEDERATED_TOKEN_FILE is not set (CONSENTRY_AZURE identities.main).",
    });
    const gone = entraTest.make(settings, { AZURE_FEDERATED_TOKEN_FILE: join(folder, "no-such-token") });
    expect(await gone.token(request, never())).toMatchObject({
      ok: false,
      message: "A file of CONSENTRY_AZURE identities.main cannot be read (ENOENT).",
    });
  });
});

describe("whose identity it is", () => {
  test("the entry * is for projects that are not named, and for no other", async () => {
    const entra = entraTest.make({
      identities: { main: secretIdentity },
      projects: { "*": project({ identity: "main" }), bare: project({}) },
    });
    const of = (name: string): MachineIdentity => ({ kind: "project", project: name });
    expect((await entra.token({ ...request, identity: of("anything") }, never())).ok).toBe(true);
    expect((await entra.token({ ...request, identity: of("constructor") }, never())).ok).toBe(true);
    expect(await entra.describe(of("bare"))).toBeNull();
    expect(await entra.token({ ...request, identity: of("bare") }, never())).toMatchObject({
      ok: false,
      message: "This project has no identity in Microsoft Entra: set CONSENTRY_AZURE projects.bare.identity.",
    });
  });

  test("is described by the settings, and by its tokens once there was one", async () => {
    const entra = withSecret();
    const issuer = `${entraTest.authority.url}/${TENANT}/v2.0`;
    expect(await entra.describe(sales)).toEqual({ issuer, subject: null, clientId: APP, tenant: TENANT });
    await entra.token(request, never());
    expect(await entra.describe(sales)).toEqual({ issuer, subject: APP_OID, clientId: APP, tenant: TENANT });
  });

  test("its tokens make nobody a caller, a person's with the same client do", async () => {
    const entra = withSecret();
    expect(entra.isOurs({ oid: APP_OID })).toBe(false);
    await entra.token(request, never());
    expect(entra.isOurs({ oid: APP_OID })).toBe(true);
    expect(entra.isOurs({ appid: APP.toUpperCase(), oid: "else" })).toBe(true);
    expect(entra.isOurs({ azp: APP, idtyp: "app", scp: "x" })).toBe(true);
    expect(entra.isOurs({ azp: APP, oid: "ann", scp: "access_as_user" })).toBe(false);
    expect(entra.isOurs({ azp: "other", oid: "other" })).toBe(false);
    expect(entra.isOurs({ azp: [APP], sub: null })).toBe(false);
  });
});

test("nothing that can be printed holds a secret or a token", async () => {
  const entra = withSecret();
  const token = tokenOf(await entra.token(request, never()));
  expect(shown(entra)).not.toContain(SECRET);
  expect(shown(entra)).not.toContain(token);
  entraTest.authority.knobs.answer = ({ form }) =>
    refused("invalid_client", 7000215, `Not ${form.get("client_secret")} of canary-tenant.`);
  const failure = await entra.token({ ...request, fresh: true }, never());
  expect(failure.ok).toBe(false);
  expect(shown(failure)).not.toContain("canary");
});

test("whoever has left before it began leaves nothing behind, whatever would have come", async () => {
  const agents = { tenantId: TENANT, blueprintId: APP, shared: APP, own: {} };
  const entra = entraTest.make(
    { identities: { main: secretIdentity }, projects: { sales: project({ identity: "main", agents }) } },
    {},
  );
  const gone = AbortSignal.abort();
  const rejections: unknown[] = [];
  const listen = (error: unknown) => void rejections.push(error);
  process.on("unhandledRejection", listen);
  expect(await entra.token(request, gone)).toMatchObject({ ok: false, transient: true });
  const identity: MachineIdentity = { kind: "agent", project: "sales", agent: null };
  expect(await entra.token({ ...request, identity }, gone)).toMatchObject({ ok: false, transient: true });
  await new Promise((resolve) => setTimeout(resolve, 50));
  process.off("unhandledRejection", listen);
  expect(rejections).toEqual([]);
});
