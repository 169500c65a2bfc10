import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jwtVerify } from "jose";
import { createPublicKey, X509Certificate } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { MachineIdentity } from "../../src/core/machine-identity.ts";
import { refused } from "../helpers/azure-authority.ts";
import { selfSigned } from "../helpers/certificate.ts";
import {
  APP,
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

const BLUEPRINT = "66666666-6666-4666-8666-666666666666";
const SHARED = "77777777-7777-4777-8777-777777777777";
const RESEARCHER = "88888888-8888-4888-8888-888888888888";
const EXCHANGE = "api://AzureADTokenExchange";

let entraTest: TestEntra;
const agents = { tenantId: TENANT, blueprintId: BLUEPRINT, shared: SHARED, own: { researcher: RESEARCHER } };
const agent = (name: string | null): MachineIdentity => ({ kind: "agent", project: "sales", agent: name });
const request = { identity: agent("researcher"), audience: AUDIENCE, fresh: false };
const make = (entry = agents) =>
  entraTest.make({
    identities: { main: secretIdentity },
    projects: { sales: project({ identity: "main", agents: entry }) },
  });

/** Whether it is a token of this authority's, for the exchange, of whoever may vouch. */
const isFrom = (fits: (claims: { sub: string; azp: string }) => boolean) => async (assertion: string) => {
  const { aud, sub, azp } = await entraTest.authority.verify(assertion);
  return aud === EXCHANGE && fits({ sub: String(sub), azp: String(azp) });
};

beforeAll(async () => {
  entraTest = await startTestEntra();
});
beforeEach(() => {
  const { apps, knobs, tokens } = entraTest.authority;
  tokens.length = 0;
  knobs.answer = () => null;
  apps.set(BLUEPRINT, { oid: "blueprint", takes: isFrom(({ azp }) => azp === APP) });
  for (const id of [SHARED, RESEARCHER])
    apps.set(id, { oid: id, takes: isFrom(({ sub, azp }) => azp === BLUEPRINT && sub.endsWith(`/${id}`)) });
});
afterAll(() => entraTest.stop());

const legs = () =>
  entraTest.authority.tokens.map(({ tenant, form }) => ({
    tenant,
    client: form.get("client_id"),
    grant: form.get("grant_type"),
    scope: form.get("scope")?.split(" ")[0],
    fmiPath: form.get("fmi_path"),
    isAsserted: form.has("client_assertion"),
    hasSecret: form.has("client_secret"),
  }));

describe("an agent identity", () => {
  test("gets its token in three steps, each vouching for the next", async () => {
    const minted = await make().token(request, never());
    expect(minted).toMatchObject({ ok: true, principal: { subject: RESEARCHER, clientId: RESEARCHER } });
    expect(await entraTest.authority.verify(tokenOf(minted))).toMatchObject({
      aud: AUDIENCE,
      azp: RESEARCHER,
    });
    const common = { tenant: TENANT, grant: "client_credentials" };
    expect(legs()).toEqual([
      {
        ...common,
        client: APP,
        scope: `${EXCHANGE}/.default`,
        fmiPath: null,
        isAsserted: false,
        hasSecret: true,
      },
      {
        ...common,
        client: BLUEPRINT,
        scope: `${EXCHANGE}/.default`,
        fmiPath: RESEARCHER,
        isAsserted: true,
        hasSecret: false,
      },
      {
        ...common,
        client: RESEARCHER,
        scope: `${AUDIENCE}/.default`,
        fmiPath: null,
        isAsserted: true,
        hasSecret: false,
      },
    ]);
  });

  test("of an agent, and the one that agents share, never share a token", async () => {
    const entra = make();
    const [own, shared] = await Promise.all([
      entra.token(request, never()),
      entra.token({ ...request, identity: agent(null) }, never()),
    ]);
    expect(own).toMatchObject({ ok: true, principal: { subject: RESEARCHER } });
    expect(shared).toMatchObject({ ok: true, principal: { subject: SHARED } });
  });

  test.each([
    ["writer", "CONSENTRY_AZURE projects.sales.agents.own.writer"],
    ["constructor", "CONSENTRY_AZURE projects.sales.agents.own.constructor"],
  ])("of the agent %s is not there, and no other takes its place", async (name, setting) => {
    const entra = make();
    expect(await entra.token({ ...request, identity: agent(name) }, never())).toEqual({
      ok: false,
      transient: false,
      claims: null,
      message: `This agent has no identity in Microsoft Entra: set ${setting} to its client id.`,
    });
    expect(entraTest.authority.tokens).toEqual([]);
    // It is known here, so that nobody looks for it elsewhere.
    expect(await entra.describe(agent(name))).toMatchObject({ clientId: null, tenant: TENANT });
  });

  test("that agents share may be left out, and then they have none", async () => {
    const entra = make({ ...agents, shared: null as never });
    expect(await entra.token({ ...request, identity: agent(null) }, never())).toMatchObject({
      ok: false,
      message:
        "This agent has no identity in Microsoft Entra: set CONSENTRY_AZURE projects.sales.agents.shared to its client id.",
    });
  });

  test("is described before it has a token: its object id is its client id", async () => {
    expect(await make().describe(agent("researcher"))).toEqual({
      issuer: `${entraTest.authority.url}/${TENANT}/v2.0`,
      subject: RESEARCHER,
      clientId: RESEARCHER,
      tenant: TENANT,
    });
    const bare = entraTest.make({ projects: { sales: project({}) } });
    expect(await bare.describe(agent("researcher"))).toBeNull();
  });

  test("makes nobody a caller, nor do its blueprint and whoever vouches", () => {
    const entra = make();
    for (const id of [APP, BLUEPRINT, SHARED, RESEARCHER]) expect(entra.isOurs({ azp: id })).toBe(true);
    expect(entra.isOurs({ sub: RESEARCHER, azp: "else" })).toBe(true);
  });

  test("asked for anew goes the whole way again", async () => {
    const entra = make();
    await entra.token(request, never());
    await entra.token(request, never());
    expect(legs()).toHaveLength(3);
    await entra.token({ ...request, fresh: true }, never());
    expect(legs()).toHaveLength(6);
    await entra.token({ ...request, audience: "api://other" }, never());
    expect(
      legs()
        .slice(6)
        .map(({ client }) => client),
    ).toEqual([RESEARCHER]);
  });
});

describe("where the chain breaks", () => {
  test.each([
    [APP, 7000215, "invalid_client", "CONSENTRY_AZURE identities.main"],
    [BLUEPRINT, 700213, "invalid_client", "CONSENTRY_AZURE projects.sales.agents"],
    [RESEARCHER, 700016, "unauthorized_client", "CONSENTRY_AZURE projects.sales.agents"],
  ])("at %s the next step is not taken, and the setting is named", async (client, code, error, setting) => {
    entraTest.authority.knobs.answer = ({ form }) =>
      form.get("client_id") === client ? refused(error, code, "canary") : null;
    const minted = await make().token(request, never());
    expect(minted).toMatchObject({ ok: false, transient: false });
    expect(shown(minted)).toContain(`AADSTS${code}`);
    expect(shown(minted)).toContain(setting);
    expect(shown(minted)).not.toContain("canary");
    expect(legs().at(-1)?.client).toBe(client);
  });

  test("a blueprint of somebody else's cannot vouch: the authority decides, and it is not tried otherwise", async () => {
    entraTest.authority.apps.set(RESEARCHER, { oid: RESEARCHER, takes: () => false });
    expect((await make().token(request, never())).ok).toBe(false);
    expect(legs()).toHaveLength(3);
  });

  test("it is mended by the next call", async () => {
    const entra = make();
    entraTest.authority.knobs.answer = ({ form }) =>
      form.get("client_id") === BLUEPRINT ? refused("invalid_client", 700213, "no") : null;
    expect((await entra.token(request, never())).ok).toBe(false);
    entraTest.authority.knobs.answer = () => null;
    expect((await entra.token(request, never())).ok).toBe(true);
  });
});

describe("a blueprint that is the project's identity itself", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "consentry-entra-"));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const token = (identity: Parameters<TestEntra["make"]>[0]["identities"]) =>
    entraTest
      .make({ identities: identity ?? {}, projects: { sales: project({ identity: "main", agents }) } })
      .token(request, never());

  test("proves itself by its secret, in one step less", async () => {
    entraTest.authority.apps.set(BLUEPRINT, { oid: "blueprint", secret: SECRET });
    const minted = await token({ main: { ...secretIdentity, clientId: BLUEPRINT } });
    expect(minted.ok).toBe(true);
    expect(legs().map(({ client, hasSecret, fmiPath }) => [client, hasSecret, fmiPath])).toEqual([
      [BLUEPRINT, true, RESEARCHER],
      [RESEARCHER, false, null],
    ]);
  });

  test("or is vouched for, by whom each project says: one's proof is never another's", async () => {
    entraTest.authority.apps.set(BLUEPRINT, {
      oid: "blueprint",
      secret: SECRET,
      takes: isFrom(({ azp }) => azp === APP),
    });
    const entra = entraTest.make({
      identities: { main: secretIdentity, self: { ...secretIdentity, clientId: BLUEPRINT } },
      projects: {
        sales: project({ identity: "main", agents }),
        ops: project({ identity: "self", agents }),
      },
    });
    const askAs = (name: string) =>
      entra.token({ ...request, identity: { kind: "agent", project: name, agent: null } }, never());
    for (const name of ["sales", "ops"]) expect([name, (await askAs(name)).ok]).toEqual([name, true]);
    const ofBlueprint = legs().filter(({ client }) => client === BLUEPRINT);
    expect(ofBlueprint.map(({ hasSecret }) => hasSecret)).toEqual([false, true]);
  });

  test("by Kubernetes' token", async () => {
    const path = join(folder, "token");
    await writeFile(path, "kubernetes");
    entraTest.authority.apps.set(BLUEPRINT, { oid: "blueprint", takes: (given) => given === "kubernetes" });
    const main = { type: "workload", tenantId: TENANT, clientId: BLUEPRINT, tokenFile: path } as const;
    expect((await token({ main })).ok).toBe(true);
    expect(legs()).toHaveLength(2);
  });

  test("by its certificate", async () => {
    const { key, cert } = selfSigned("blueprint", "rsa");
    const path = join(folder, "blueprint.pem");
    await writeFile(path, `${cert}${key}`);
    const certificate = new X509Certificate(cert);
    const publicKey = createPublicKey(certificate.publicKey.export({ type: "spki", format: "pem" }));
    entraTest.authority.apps.set(BLUEPRINT, {
      oid: "blueprint",
      takes: async (assertion) => {
        const { protectedHeader } = await jwtVerify(assertion, publicKey, { clockTolerance: 5 });
        const thumbprint = Buffer.from(certificate.fingerprint256.replaceAll(":", ""), "hex").toString(
          "base64url",
        );
        return protectedHeader["x5t#S256"] === thumbprint;
      },
    });
    const main = {
      type: "certificate",
      tenantId: TENANT,
      clientId: BLUEPRINT,
      certificateFile: path,
    } as const;
    expect((await token({ main })).ok).toBe(true);
    await writeFile(path, "canary");
    const broken = await token({ main });
    expect(broken.ok).toBe(false);
    expect(shown(broken)).not.toContain("canary");
  });
});
