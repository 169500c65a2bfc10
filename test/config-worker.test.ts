import { describe, expect, test } from "vitest";
import { ConfigError } from "../src/config.ts";
import { parseWorkerConfig } from "../src/config-worker.ts";

const WHOLE = {
  CONSENTRY_PUBLIC_URL: "https://broker.example.com",
  CONSENTRY_ADMIN_KEY: "csk_9fK2mQ7xWc4Rt8Zb3Yd6Hg1Jp5Ls0Nv-uEoAiXqTyBw",
  CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
  CONSENTRY_EGRESS_ALLOW: "mcp.example.com,*.github.com",
};

function faultsOf(bindings: Record<string, unknown>): Record<string, string> {
  try {
    parseWorkerConfig(bindings);
  } catch (error) {
    if (error instanceof ConfigError)
      return Object.fromEntries(error.faults.map(({ name, message }) => [name, message]));
  }
  throw new Error("expected faults");
}

test("texts among the bindings are settings, and all else is none of our business", () => {
  const config = parseWorkerConfig({ ...WHOLE, DB: { prepare: () => {} }, OTHER: "x", NUMBER: 7 });
  expect(config).toMatchObject({
    publicUrl: "https://broker.example.com",
    local: false,
    adminKey: WHOLE.CONSENTRY_ADMIN_KEY,
    keyring: { kind: "inline", text: WHOLE.CONSENTRY_KEYRING },
    egressAllow: "mcp.example.com,*.github.com",
  });
});

test("public URL, admin key and keyring are required, also on loopback, and are all asked for at once", () => {
  const names = ["CONSENTRY_ADMIN_KEY", "CONSENTRY_KEYRING", "CONSENTRY_PUBLIC_URL"];
  expect(Object.keys(faultsOf({})).toSorted()).toEqual(names);
  const local = faultsOf({ CONSENTRY_PUBLIC_URL: "http://localhost:8787" });
  expect(Object.keys(local).toSorted()).toEqual(names.slice(0, 2));
  expect(local["CONSENTRY_ADMIN_KEY"]).toContain("wrangler secret put CONSENTRY_ADMIN_KEY");
});

test("on loopback, where the admin key may do everything, no other name leads to it", () => {
  const here = { ...WHOLE, CONSENTRY_PUBLIC_URL: "http://localhost:8787" };
  expect(parseWorkerConfig({ ...here, CONSENTRY_ALLOWED_HOSTS: "127.0.0.1:8787, [::1]:8787" }).local).toBe(
    true,
  );
  for (const host of ["broker.example.workers.dev", "localhost:8787,127.0.0.1.nip.io", "10.0.0.7:8787"])
    expect(faultsOf({ ...here, CONSENTRY_ALLOWED_HOSTS: host })["CONSENTRY_PUBLIC_URL"]).toContain(
      "others reach",
    );
});

test.each([
  ["CONSENTRY_HOST", "0.0.0.0"],
  ["CONSENTRY_PORT", "8787"],
  ["CONSENTRY_TLS", "development"],
  ["CONSENTRY_DATABASE_URL", "file:./data/consentry.db"],
  ["CONSENTRY_AZURE", '{"identities":{}}'],
  ["CONSENTRY_METRICS_PORT", "9464"],
  ["CONSENTRY_SHUTDOWN_MS", "1"],
  ["CONSENTRY_DEV_IDENTITY", "me=secret"],
  ["OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"],
  ["CONSENTRY_KEYRING", "file:./keyring"],
  ["CONSENTRY_KEYRING", "https://v.vault.azure.net/secrets/keyring"],
  ["CONSENTRY_EGRESS_ALLOW", "mcp.example.com, *"],
  ["CONSENTRY_SECRET_SOURCES", "default=keyvault:https://v.vault.azure.net"],
  ["CONSENTRY_SECRET_SOURCES", "default=env:A,default=file:/run/secrets/*"],
  ["CONSENTRY_ADMIN_KEY", "too-short"],
  ["CONSENTRY_PUBLIC_URL", "http://broker.example.com"],
  ["CONSENTRY_EGRES_ALLOW", "x"],
])("%s=%s is refused, once, and its value is not said", (name, value) => {
  const faults = faultsOf({ ...WHOLE, [name]: value });
  expect(Object.keys(faults)).toEqual([name]);
  expect(faults[name]).not.toContain(value);
});

describe("what Workers have", () => {
  test.each([
    ["CONSENTRY_SECRET_SOURCES", "default=env:GITHUB_TOKEN"],
    ["CONSENTRY_EGRESS_ALLOW", "none"],
    ["CONSENTRY_AUDIT", "sync"],
    ["CONSENTRY_CONSENT_PROOF", "sign-in"],
    ["CONSENTRY_MODEL_BASE_URL", "https://api.openai.com/v1"],
  ])("%s=%s is taken", (name, value) => {
    expect(parseWorkerConfig({ ...WHOLE, [name]: value }).publicUrl).toBe(WHOLE.CONSENTRY_PUBLIC_URL);
  });
});
