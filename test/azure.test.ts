import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openAzure } from "../src/azure.ts";
import { parseConfig } from "../src/config.ts";
import { type BrokerProcess, startBroker } from "./helpers/process.ts";
import { vouch } from "./helpers/entra.ts";

const tenantId = "11111111-1111-4111-8111-111111111111";
const clientId = "22222222-2222-4222-8222-222222222222";
const text = JSON.stringify({
  authorityHost: "https://login.microsoftonline.us",
  identities: {
    host: { type: "managed" },
    api: { type: "secret", tenantId, clientId, clientSecret: "env:CANARY_NAME" },
  },
  projects: { sales: { identity: "host", onBehalfOf: "api" }, "*": {} },
  targets: [{ host: "*.contoso.com", audience: "api://contoso" }],
});
const clock = { now: () => Date.now(), sleep: async () => {} };
let folder: string;
let path: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-azure-"));
  path = join(folder, "azure.json");
  await writeFile(path, text);
});
afterAll(() => rm(folder, { recursive: true }));

const open = (value?: string) =>
  openAzure(parseConfig({ CONSENTRY_AZURE: value }), { clock, env: {}, vouch });

describe("Microsoft Entra at the door", () => {
  test("is nobody unless it is configured", async () => {
    expect(await open()).toBeNull();
  });

  test.each([
    ["given itself", () => text],
    ["in a file", () => `file:${path}`],
  ])("%s, it shows who there is, and no place of a secret", async (_, value) => {
    const opened = await open(value());
    expect(opened?.shown).toEqual({
      authority: "https://login.microsoftonline.us",
      identities: { host: "managed", api: `secret ${clientId}` },
      projects: ["sales", "*"],
      targets: ["*.contoso.com api://contoso"],
    });
    expect(opened?.entra.targetFault("https://a.contoso.com/mcp", "api://contoso")).toBeNull();
    expect(JSON.stringify(opened?.shown)).not.toContain("CANARY");
  });

  test("a file that is not there, and one with faults, are refused by the setting's name", async () => {
    await expect(open(`file:${path}.none`)).rejects.toThrow(
      "CONSENTRY_AZURE names a file that cannot be read (ENOENT)",
    );
    const wrong = join(folder, "wrong.json");
    await writeFile(wrong, '{"targets":[{"host":"*","audience":"canary"}],"x":1}');
    await expect(open(`file:${wrong}`)).rejects.toThrow(
      "CONSENTRY_AZURE at targets.0.host must be host, *.host or either with :port; http://host:port on loopback\n" +
        "  CONSENTRY_AZURE at x is unknown",
    );
  });
});

describe("the broker", () => {
  let broker: BrokerProcess | null = null;
  const start = (env: Record<string, string>) =>
    startBroker({ CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`, ...env });
  afterAll(async () => broker?.kill9());

  test("says at its start which identities there are", async () => {
    broker = await start({ CONSENTRY_AZURE: `file:${path}`, CANARY_NAME: "canary-secret" });
    expect(broker.output()).toContain(`"identities":{"host":"managed","api":"secret ${clientId}"}`);
    expect(broker.output()).toContain('"authority":"https://login.microsoftonline.us"');
    expect(broker.output()).not.toContain("canary-secret");
    expect(broker.output()).not.toContain("CANARY_NAME");
  });

  test("does not start with a file that is wrong, and says why", async () => {
    const refusal = await start({ CONSENTRY_AZURE: `file:${folder}/none.json` }).then(
      () => "it started",
      (error: Error) => error.message,
    );
    expect(refusal).toContain("CONSENTRY_AZURE names a file that cannot be read (ENOENT)");
    expect(refusal).not.toContain("at openAzure");
  });
});
