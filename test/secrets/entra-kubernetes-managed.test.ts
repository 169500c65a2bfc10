import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { MachineIdentity } from "../../src/core/machine-identity.ts";
import { refused } from "../helpers/azure-authority.ts";
import { never, project, shown, startTestEntra, TENANT, type TestEntra } from "../helpers/entra.ts";

// Where Kubernetes' variables for workload identity are set, Azure's package serves `managed` by them, and by requests of its own.

const POD = "55555555-5555-4555-8555-555555555555";
const host: MachineIdentity = { kind: "project", project: "host" };
let entraTest: TestEntra;
let folder: string;

beforeAll(async () => {
  entraTest = await startTestEntra();
  folder = await mkdtemp(join(tmpdir(), "consentry-entra-"));
  const tokenFile = join(folder, "token");
  await writeFile(tokenFile, "kubernetes");
  process.env["AZURE_TENANT_ID"] = TENANT;
  process.env["AZURE_CLIENT_ID"] = POD;
  process.env["AZURE_FEDERATED_TOKEN_FILE"] = tokenFile;
  process.env["AZURE_AUTHORITY_HOST"] = entraTest.authority.url;
  entraTest.authority.apps.set(POD, { oid: "pod", takes: (assertion) => assertion === "kubernetes" });
});
afterAll(async () => {
  await entraTest.stop();
  await rm(folder, { recursive: true });
});

const ask = (audience: string) =>
  entraTest
    .make({
      identities: { host: { type: "managed", clientId: null } },
      projects: { host: project({ identity: "host" }) },
    })
    .token({ identity: host, audience, fresh: false }, never());

test("a managed identity there is the pod's", async () => {
  expect(await ask("api://pod")).toMatchObject({ ok: true, principal: { subject: "pod", clientId: POD } });
});

test("what the authority refuses has its number and its sentence all the same", async () => {
  entraTest.authority.knobs.answer = () => refused("invalid_client", 700213, "canary");
  const minted = await ask("api://other");
  expect(minted).toMatchObject({ ok: false, transient: false });
  expect(shown(minted)).toContain("AADSTS700213");
  expect(shown(minted)).toContain("no federated credential of the application matches");
  expect(shown(minted)).not.toContain("canary");
});
