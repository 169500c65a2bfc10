import { describe, expect, test } from "vitest";
import { audienceFault } from "../../src/core/audience-rules.ts";

const at = { publicUrl: "https://broker.example", callers: [] };

test.each([
  "https://mcp.example/mcp",
  "https://storage.azure.com",
  "https://cognitiveservices.azure.com/.default",
  "https://graph.microsoft.com",
  "api://0b2c4a9e-4b3a-4a5f-9a55-5f3a5b8b3a11",
  "0b2c4a9e-4b3a-4a5f-9a55-5f3a5b8b3a11",
  "sts.amazonaws.com",
  "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
  "api://AzureADTokenExchange",
  "urn:example:notes",
  "notes",
  "https://broker.example.org",
  "https://my-broker.example",
  "https://broker.example:8443",
  "https://evil.example/https://broker.example",
  "https://ai.azure.com.example",
])("%s may be an audience", (audience) => {
  expect(audienceFault(audience, at)).toBeNull();
});

test.each(["", " ", "two words", "tab\there", "Straße", "x\u0000", "line\n", "x".repeat(513)])(
  "%j is no audience",
  (audience) => {
    expect(audienceFault(audience, at)).toContain("printable ASCII");
  },
);

test("an audience may have 512 characters", () => {
  expect(audienceFault("x".repeat(512), at)).toBeNull();
});

/** Other ways to write an audience that a server may take for the same. */
const spellings = (host: string, path = "") => [
  `https://${host}${path}`,
  `https://${host}${path}/`,
  `https://${host}${path}//`,
  `https://${host}${path}/.default`,
  `https://${host}${path}//.default`,
  `https://${host}${path}/.default/`,
  `HTTPS://${host.toUpperCase()}${path.toUpperCase()}/.DEFAULT`,
  `https://${host}:443${path}`,
  `http://${host}${path}`,
  `http://${host}:80${path}`,
  `https://${host}.${path}`,
  `https://${host}.:443${path}/`,
  `https://user@${host}${path}`,
  `https:${host}${path}`,
  `https:\\\\${host}${path}`,
  `//${host}${path}`,
  `spn:https://${host}${path}`,
  `api://${host}${path}`,
  `${host}${path}`,
  `https://${host.replace("a", "%61").replace("b", "%62")}${path}`,
];

const CONTROL_PLANES = [
  "ai.azure.com",
  "ai.azure.us",
  "ai.azure.cn",
  "management.azure.com",
  "management.core.windows.net",
  "management.usgovcloudapi.net",
  "management.core.usgovcloudapi.net",
  "management.chinacloudapi.cn",
  "management.core.chinacloudapi.cn",
  "management.microsoftazure.de",
  "management.core.cloudapi.de",
];

describe("refused, however it is written:", () => {
  test.each([
    ...spellings("broker.example"),
    ...spellings("broker.example", "/api/projects/default"),
    ...spellings("broker.example", "/api/projects/p/connections/c/mcp"),
    "https://broker.example?x=1",
    "https://broker.example#x",
  ])("ours, %s", (audience) => {
    expect(audienceFault(audience, at)).toContain("this broker");
  });

  test.each([
    "http://127.0.0.1:8787",
    "127.0.0.1:8787",
    "HTTP://127.1:8787/api",
    "http://0x7f.1:8787/",
    "http://localhost:8787",
    "http://[::1]:8787/api",
  ])("ours on loopback, %s", (audience) => {
    expect(audienceFault(audience, { ...at, publicUrl: "http://127.0.0.1:8787" })).toContain("this broker");
  });

  test.each(["localhost:8787", "http://localhost:8787/api/projects/p/toolboxes/t/mcp"])(
    "ours by its name, %s",
    (audience) => {
      expect(audienceFault(audience, { ...at, publicUrl: "http://localhost:8787" })).toContain("this broker");
    },
  );

  test("but another server on the same machine is another", () => {
    const here = { ...at, publicUrl: "http://127.0.0.1:8787" };
    expect(audienceFault("http://127.0.0.1:9000/mcp", here)).toBeNull();
  });

  test.each([
    ...CONTROL_PLANES.flatMap((host) => spellings(host)),
    "https://management.azure.com/subscriptions/0",
    "https://management.azure.com:8443",
    "797f4846-ba00-4fd7-ba43-dac1f8f63013",
    "797F4846-BA00-4FD7-BA43-DAC1F8F63013/.default",
    "spn:797f4846-ba00-4fd7-ba43-dac1f8f63013",
  ])("Azure's, %s", (audience) => {
    expect(audienceFault(audience, at)).toContain("control plane");
  });

  test.each([
    ["api://broker-api", ["API://Broker-API", "api://broker-api/", "api://broker-api/.default"]],
    ["https://api.example/v1", spellings("api.example", "/v1")],
    ["0b2c4a9e-4b3a-4a5f-9a55-5f3a5b8b3a11", ["0B2C4A9E-4b3a-4a5f-9a55-5f3a5b8b3a11/.default"]],
    ["urn:example:callers", ["URN:example:callers/"]],
  ])("that of callers, %s", (taken, written) => {
    for (const audience of [taken, ...written]) {
      expect([audience, audienceFault(audience, { ...at, callers: ["other", taken] })]).toEqual([
        audience,
        expect.stringContaining("callers"),
      ]);
    }
    expect(audienceFault("https://api.example/v2", { ...at, callers: [taken] })).toBeNull();
  });
});
