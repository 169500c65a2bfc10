import { describe, expect, test } from "vitest";
import { createTargetFault } from "../../src/secrets/entra-targets.ts";

const fault = createTargetFault([
  { host: "api.contoso.com", audience: "api://contoso" },
  { host: "*.cognitiveservices.azure.com", audience: "https://cognitiveservices.azure.com" },
  { host: "internal.contoso.com:8443", audience: "api://contoso/.default" },
  { host: "http://localhost:3000", audience: "api://local/" },
  { host: "http://[::1]", audience: "api://local" },
]);

describe("a token may be sent", () => {
  test.each([
    ["https://api.contoso.com/mcp?x=1", "api://contoso"],
    ["https://api.contoso.com:443/mcp", "api://contoso"],
    ["https://API.Contoso.COM/", "api://contoso"],
    ["https://api.contoso.com/", "api://contoso/"],
    ["https://api.contoso.com/", "api://contoso/.default"],
    ["https://api.contoso.com/", "api://contoso//.default"],
    ["https://eu.cognitiveservices.azure.com/mcp", "https://cognitiveservices.azure.com/"],
    ["https://a.b.cognitiveservices.azure.com/mcp", "https://cognitiveservices.azure.com"],
    ["https://internal.contoso.com:8443/", "api://contoso"],
    ["http://localhost:3000/mcp", "api://local"],
    ["http://[0:0:0:0:0:0:0:1]/", "api://local"],
  ])("to %s for %s", (url, audience) => {
    expect(fault(url, audience)).toBeNull();
  });
});

describe("a token is never sent", () => {
  test.each([
    ["another audience", "https://api.contoso.com/", "https://graph.microsoft.com"],
    ["an audience that is longer", "https://api.contoso.com/", "api://contoso-evil"],
    ["an audience below", "https://api.contoso.com/", "api://contoso/x"],
    ["an audience in another case", "https://api.contoso.com/", "API://contoso"],
    ["two slashes", "https://api.contoso.com/", "api://contoso//"],
    ["http", "http://api.contoso.com/", "api://contoso"],
    ["another port", "https://api.contoso.com:8443/", "api://contoso"],
    ["no port where one is named", "https://internal.contoso.com/", "api://contoso"],
    ["a host below", "https://x.api.contoso.com/", "api://contoso"],
    ["a host around", "https://api.contoso.com.evil.example/", "api://contoso"],
    ["a host that ends alike", "https://evilapi.contoso.com/", "api://contoso"],
    [
      "the wildcard's own host",
      "https://cognitiveservices.azure.com/",
      "https://cognitiveservices.azure.com",
    ],
    [
      "a host that ends as the wildcard",
      "https://evilcognitiveservices.azure.com/",
      "https://cognitiveservices.azure.com",
    ],
    [
      "an empty name before it",
      "https://.cognitiveservices.azure.com/",
      "https://cognitiveservices.azure.com",
    ],
    ["a dot at the end", "https://api.contoso.com./", "api://contoso"],
    [
      "a dot at a wildcard's end",
      "https://x.cognitiveservices.azure.com./",
      "https://cognitiveservices.azure.com",
    ],
    ["a user name", "https://api.contoso.com@evil.example/", "api://contoso"],
    ["a user name before the right host", "https://x:y@api.contoso.com/", "api://contoso"],
    ["a letter that looks alike", "https://api.c\u043entoso.com/", "api://contoso"],
    ["a backslash", "https://evil.example\\@api.contoso.com/", "api://contoso"],
    ["a fragment that hides a host", "https://evil.example#@api.contoso.com/", "api://contoso"],
    ["a path that looks like it", "https://evil.example/api.contoso.com", "api://contoso"],
    ["a host in a query", "https://evil.example?x=https://api.contoso.com/", "api://contoso"],
    ["an encoded dot", "https://api%2econtoso%2ecom.evil.example/", "api://contoso"],
    ["https where http is listed", "https://localhost:3000/", "api://local"],
    ["another loopback name", "http://127.0.0.1:3000/", "api://local"],
    ["another scheme", "ftp://api.contoso.com/", "api://contoso"],
    ["no URL", "api.contoso.com", "api://contoso"],
  ])("with %s", (_, url, audience) => {
    expect(fault(url, audience)).not.toBeNull();
  });

  test("and the sentence says where the operator names both", () => {
    expect(fault("https://evil.example/mcp?key=canary", "api://contoso")).toBe(
      "A Microsoft Entra token for api://contoso is not sent to evil.example: the operator's list does not name them together. Add both to targets in CONSENTRY_AZURE.",
    );
    expect(fault("https://u:canary@api.contoso.com/", "api://contoso")).not.toContain("canary");
    expect(createTargetFault([])("https://api.contoso.com/", "api://contoso")).not.toBeNull();
  });
});
