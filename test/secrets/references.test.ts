import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/system-clock.ts";
import { createReferences } from "../../src/secrets/references.ts";
import { createSecretFiles } from "../../src/secrets/secret-files.node.ts";
import { parseSecretSources, SecretSourcesError } from "../../src/secrets/secret-sources.ts";
import { failed } from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";

const MINUTE = 60_000;
type Trouble = [what: string, answer: AzureHere["vault"]["knobs"]["answer"], why: string];
const CANARY = "canary-of-a-secret";

let azure: AzureHere;
let folder: string;
let ahead: number;
let logs: { event: string; fields: Record<string, unknown> }[];

beforeAll(async () => {
  azure = await startAzure();
});
afterAll(() => azure.stop());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-lent-"));
  ahead = 0;
  logs = [];
  azure.vault.secrets.clear();
  azure.vault.asked.length = 0;
  azure.vault.knobs.answer = () => null;
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function referencesOf(sources: string, env: Record<string, string> = {}, own: string[] = []) {
  const clock = { now: () => Date.now() + ahead, sleep: systemClock.sleep };
  return createReferences({
    sources: parseSecretSources(sources),
    vaults: azure.vaults(clock, 300),
    files: createSecretFiles(own),
    env,
    clock,
    log: (_, event, fields = {}) => logs.push({ event, fields }),
  });
}
const vaultRef = (name: string) => `keyvault:${azure.vault.url}/secrets/${name}`;
const refusal = (why: string) =>
  expect.objectContaining({
    code: "unavailable",
    details: { what: expect.stringContaining(why), reference: expect.any(String), passing: true },
  });

describe("what is lent", () => {
  const vault = "https://team.vault.azure.net";
  const may = (sources: string, ref: string, project = "web") =>
    parseSecretSources(sources).lent(project, ref).ok;

  test("is nothing, as long as nobody says so, and the refusal names the setting", () => {
    for (const ref of [`keyvault:${vault}/secrets/x`, "env:GITHUB_KEY", "file:/run/secrets/x"])
      expect(parseSecretSources("").lent("web", ref)).toEqual({
        ok: false,
        why: "is not lent to this project: an operator can, with CONSENTRY_SECRET_SOURCES",
      });
  });

  test.each([
    [`web=keyvault:${vault}`, `keyvault:${vault}/secrets/github`, true],
    [`web=keyvault:${vault}/`, `keyvault:${vault}/secrets/github`, true],
    [`web=keyvault:${vault}`, `keyvault:HTTPS://TEAM.vault.azure.net/secrets/github`, false],
    [`web=keyvault:${vault}`, `keyvault:https://TEAM.vault.azure.net/secrets/github`, true],
    [`web=keyvault:${vault}`, `keyvault:${vault}:8443/secrets/github`, false],
    [`web=keyvault:${vault}`, `keyvault:${vault}.evil.example/secrets/github`, false],
    [`web=keyvault:${vault}`, `keyvault:https://team.vault.azure.net@evil.example/secrets/x`, false],
    [`web=keyvault:${vault}/secrets/github`, `keyvault:${vault}/secrets/GitHub`, true],
    [`web=keyvault:${vault}/secrets/github`, `keyvault:${vault}/secrets/github/${"a".repeat(32)}`, true],
    [`web=keyvault:${vault}/secrets/github`, `keyvault:${vault}/secrets/github2`, false],
    [`web=keyvault:${vault}/secrets/web-*`, `keyvault:${vault}/secrets/web-github`, true],
    [`web=keyvault:${vault}/secrets/web-*`, `keyvault:${vault}/secrets/api-github`, false],
    [`web=keyvault:${vault}/secrets/web-*`, `keyvault:${vault}/secrets/web-/../api-github`, false],
    [`web=keyvault:${vault}`, `keyvault:${vault}/keys/github`, false],
    ["web=env:WEB_*", "env:WEB_GITHUB", true],
    ["web=env:WEB_*", "env:API_GITHUB", false],
    ["web=env:WEB_KEY", "env:WEB_KEY", true],
    ["web=env:WEB_KEY", "env:WEB_KEY2", false],
    ["web=env:C*", "env:CONSENTRY_ADMIN_KEY", false],
    ["web=env:A*", "env:AZURE_CLIENT_SECRET", false],
    ["web=env:I*", "env:identity_header", false],
    ["web=env:M*", "env:MSI_SECRET", false],
    ["web=env:A*", "env:AZURE_PASSWORD", false],
    ["web=env:A*", "env:APPSETTING_CONSENTRY_KEYRING", false],
    ["web=env:A*", "env:APPSETTING_WEB_KEY", true],
    ["web=env:P*", "env:PGPASSWORD", false],
    ["web=file:/run/secrets/*", "file:/run/secrets/github", true],
    ["web=file:/run/secrets/*", "file:/run/secrets/a/github", false],
    ["web=file:/run/secrets/*", "file:/run/secrets/../admin-key", false],
    ["web=file:/run/secrets/*", "file:/run/secrets//github", false],
    ["web=file:/run/secrets/*", "file:run/secrets/github", false],
    ["web=file:/run/github", "file:/run/github", true],
    ["api=env:WEB_*", "env:WEB_GITHUB", false],
    ["api=env:X, *=env:WEB_*", "env:WEB_GITHUB", true],
    ["@connectors=env:WEB_*", "env:WEB_GITHUB", false],
    ["web=env:WEB_*", "WEB_GITHUB", false],
    ["web=env:WEB_*", "env:WEB_A\nB", false],
  ])("%s lends %s: %s", (sources, ref, is) => {
    expect(may(sources, ref)).toBe(is);
  });

  test("to the connectors is what their own name lends, or what all may have", () => {
    expect(may("@connectors=env:APP_*", "env:APP_SECRET", "")).toBe(true);
    expect(may("*=env:APP_*", "env:APP_SECRET", "")).toBe(true);
    expect(may("web=env:APP_*", "env:APP_SECRET", "")).toBe(false);
  });

  test("is told when it cannot be read, every entry at once", () => {
    const wrong = [
      "env:X",
      "we b=env:X",
      "web=vault:x",
      "web=env:*",
      "web=env:CONSENTRY_*",
      "web=env:AZURE_CLIENT_SECRET",
      "web=keyvault:http://team.vault.azure.net",
      "web=keyvault:https://*.vault.azure.net",
      "web=keyvault:https://team.vault.azure.net/keys/x",
      "web=keyvault:https://team.vault.azure.net/secrets/",
      "web=file:secrets/*",
      "web=file:/run/../*",
      "web=file:/*",
    ];
    const error = (() => {
      try {
        return parseSecretSources(wrong.join(","));
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(SecretSourcesError);
    expect(error instanceof SecretSourcesError && error.faults.map(({ entry }) => entry)).toEqual(wrong);
  });
});

describe("a secret in a vault", () => {
  test("is asked for once, however many wait, and again after five minutes", async () => {
    azure.vault.put("github", "first");
    const references = referencesOf(`web=keyvault:${azure.vault.url},api=keyvault:${azure.vault.url}`);
    const both = await Promise.all(
      Array.from({ length: 200 }, (_, at) => references.resolve(at % 2 ? "web" : "api", vaultRef("github"))),
    );
    expect(new Set(both)).toEqual(new Set(["first"]));
    expect(azure.vault.asked).toHaveLength(1);
    azure.vault.put("github", "second");
    ahead = 5 * MINUTE - 1_000;
    expect(await references.resolve("web", vaultRef("github"))).toBe("first");
    ahead = 5 * MINUTE + 1_000;
    expect(await references.resolve("web", vaultRef("github"))).toBe("second");
    expect(azure.vault.asked).toHaveLength(2);
  });

  test("is one secret in every spelling that its place takes", async () => {
    azure.vault.put("github", "first");
    azure.vault.put("GitHub", "first");
    const references = referencesOf(`web=keyvault:${azure.vault.url}`);
    const host = azure.vault.url.replace("localhost", "LOCALHOST");
    for (const ref of [vaultRef("github"), vaultRef("GitHub"), `keyvault:${host}/secrets/github/`])
      expect(await references.resolve("web", ref)).toBe("first");
    expect(azure.vault.asked).toHaveLength(1);
  });

  test("that another project was given is not to be had from memory either", async () => {
    azure.vault.put("github", "first");
    const references = referencesOf(`web=keyvault:${azure.vault.url}`);
    await references.resolve("web", vaultRef("github"));
    await expect(references.resolve("api", vaultRef("github"))).rejects.toEqual(
      refusal("is not lent to this project"),
    );
    expect(references.fault("api", vaultRef("github"))).toContain("CONSENTRY_SECRET_SOURCES");
    expect(references.fault("web", vaultRef("github"))).toBeNull();
  });

  test.each([
    ["does not answer", () => "hang", "did not answer within 0.3 seconds"],
    ["fails", () => failed(500, "Broken"), "(500)"],
    ["throttles", () => ({ ...failed(429, "Throttled"), headers: { "retry-after": "1" } }), "(429)"],
  ] satisfies Trouble[])(
    "whose vault %s serves on for an hour since it was read, then fails and says so",
    async (_, answer, why) => {
      azure.vault.put("github", CANARY);
      const references = referencesOf(`web=keyvault:${azure.vault.url}`);
      await references.resolve("web", vaultRef("github"));
      azure.vault.knobs.answer = answer;
      for (const minutes of [6, 30, 59]) {
        ahead = minutes * MINUTE;
        expect(await references.resolve("web", vaultRef("github"))).toBe(CANARY);
      }
      ahead = 61 * MINUTE;
      await expect(references.resolve("web", vaultRef("github"))).rejects.toEqual(
        refusal("could not be read for 61 minutes"),
      );
      await expect(references.resolve("web", vaultRef("github"))).rejects.toEqual(refusal(why));
      expect(logs.map(({ event }) => event)).toEqual(["secret_unreachable"]);
      azure.vault.knobs.answer = () => null;
      ahead += MINUTE;
      expect(await references.resolve("web", vaultRef("github"))).toBe(CANARY);
      expect(logs.map(({ event }) => event)).toEqual(["secret_unreachable", "secret_reachable"]);
      expect(JSON.stringify(logs)).not.toContain(CANARY);
    },
  );

  test.each([
    ["forbidden", () => failed(403, "Forbidden"), "Key Vault Secrets User"],
    ["gone", () => failed(404, "SecretNotFound"), "no such secret"],
  ] satisfies Trouble[])(
    "that is %s is not served from memory once its five minutes are over",
    async (_, answer, why) => {
      azure.vault.put("github", CANARY);
      const references = referencesOf(`web=keyvault:${azure.vault.url}`);
      await references.resolve("web", vaultRef("github"));
      azure.vault.knobs.answer = answer;
      ahead = 5 * MINUTE - 1_000;
      expect(await references.resolve("web", vaultRef("github"))).toBe(CANARY);
      ahead = 5 * MINUTE + 1_000;
      await expect(references.resolve("web", vaultRef("github"))).rejects.toEqual(refusal(why));
    },
  );

  test("that fails is not asked for again within ten seconds, nor before its vault wants to be asked", async () => {
    const references = referencesOf(`web=keyvault:${azure.vault.url}`);
    const asks = async () => {
      await expect(references.resolve("web", vaultRef("github"))).rejects.toEqual(refusal("cannot be read"));
      return azure.vault.asked.length;
    };
    expect([await asks(), await asks()]).toEqual([1, 1]);
    ahead = 11_000;
    azure.vault.knobs.answer = () => ({ ...failed(429, "Throttled"), headers: { "retry-after": "60" } });
    expect(await asks()).toBe(2);
    ahead = 60_000;
    expect(await asks()).toBe(2);
    ahead = 75_000;
    expect(await asks()).toBe(3);
  });
});

describe("a secret in a variable", () => {
  test("is its value; one that is missing or empty fails by its name", async () => {
    const references = referencesOf("web=env:WEB_*", { WEB_KEY: CANARY, WEB_EMPTY: "" });
    expect(await references.resolve("web", "env:WEB_KEY")).toBe(CANARY);
    await expect(references.resolve("web", "env:WEB_NONE")).rejects.toEqual(
      refusal("env:WEB_NONE cannot be read: there is no such variable"),
    );
    await expect(references.resolve("web", "env:WEB_EMPTY")).rejects.toEqual(refusal("it is empty"));
  });

  test("is none of what every object has", async () => {
    const references = referencesOf("web=env:c*,web=env:_*");
    for (const name of ["constructor", "__proto__"])
      await expect(references.resolve("web", `env:${name}`)).rejects.toEqual(refusal("no such variable"));
  });

  test("of the broker's own is never lent, in no spelling", async () => {
    const env = { CONSENTRY_ADMIN_KEY: CANARY, consentry_x: CANARY, AZURE_CLIENT_SECRET: CANARY };
    const references = referencesOf("web=env:C*,web=env:c*,web=env:A*", env);
    for (const name of Object.keys(env))
      await expect(references.resolve("web", `env:${name}`)).rejects.toEqual(refusal("never lent"));
  });
});

describe("a secret in a file", () => {
  const lent = () =>
    referencesOf(`web=file:${folder}/lent/*,web=file:${folder}/one`, {}, [join(folder, "own")]);
  const resolve = (name: string) => lent().resolve("web", `file:${folder}/${name}`);
  beforeEach(async () => {
    await mkdir(join(folder, "lent"));
    await writeFile(join(folder, "own"), CANARY);
    await writeFile(join(folder, "outside"), CANARY);
  });

  test("is its text, without the line end behind it and no other", async () => {
    await writeFile(join(folder, "lent/key"), "ghp_1\n");
    await writeFile(join(folder, "lent/windows"), "ghp_2\r\n");
    await writeFile(join(folder, "one"), "ghp_3\n\n");
    expect(await resolve("lent/key")).toBe("ghp_1");
    expect(await resolve("lent/windows")).toBe("ghp_2");
    expect(await resolve("one")).toBe("ghp_3\n");
  });

  test("may be a link within its folder, as mounted secrets are, and none out of it", async () => {
    await mkdir(join(folder, "lent/..2026"));
    await writeFile(join(folder, "lent/..2026/key"), "ghp_1");
    await symlink("..2026", join(folder, "lent/..data"));
    await symlink("..data/key", join(folder, "lent/key"));
    await symlink("../outside", join(folder, "lent/out"));
    await symlink("/etc/hostname", join(folder, "lent/etc"));
    expect(await resolve("lent/key")).toBe("ghp_1");
    await expect(resolve("lent/out")).rejects.toEqual(refusal("leads out of its folder"));
    await expect(resolve("lent/etc")).rejects.toEqual(refusal("leads out of its folder"));
  });

  test("of the broker's own is never lent, whatever leads there", async () => {
    await symlink("own", join(folder, "one"));
    await expect(resolve("one")).rejects.toEqual(refusal("a file of the broker's own"));
  });

  test("that is missing, a folder, a device or too large is refused", async () => {
    await mkdir(join(folder, "lent/folder"));
    await writeFile(join(folder, "lent/large"), "x".repeat(64 * 1024 + 1));
    await symlink("/dev/zero", join(folder, "one"));
    await expect(resolve("lent/absent")).rejects.toEqual(refusal("there is no such file"));
    await expect(resolve("lent/folder")).rejects.toEqual(refusal("it is no file"));
    await expect(resolve("lent/large")).rejects.toEqual(refusal("more than 65536 bytes"));
    await expect(resolve("one")).rejects.toEqual(refusal("it is no file"));
  });

  test("that is written anew is read anew within five minutes", async () => {
    const references = lent();
    await writeFile(join(folder, "one"), "first");
    expect(await references.resolve("web", `file:${folder}/one`)).toBe("first");
    await writeFile(join(folder, "one"), "second");
    expect(await references.resolve("web", `file:${folder}/one`)).toBe("first");
    ahead = 5 * MINUTE + 1;
    expect(await references.resolve("web", `file:${folder}/one`)).toBe("second");
  });
});
