// docs/azure.md, held against the code: what it lists is all that there is, and what it shows is accepted.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseAzure } from "../../src/config-azure.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { type AzureAuthority, startAzureAuthority } from "../helpers/azure-authority.ts";
import { readPage, sourceOf } from "../helpers/page.ts";

const page = readPage("docs/azure.md");
const blocks = page.json();
/** As the page lends it, to the project of the test. */
const lent = (/^CONSENTRY_SECRET_SOURCES=(\S+)$/m.exec(page.text)?.[1] ?? "").replace(/^sales=/, "default=");
const LOGIN = "https://login.microsoftonline.com";

/** The words of a union, as they stand in its declaration. */
function unionIn(path: string, name: string): string[] {
  const declared = new RegExp(`type ${name} =([^;]*);`).exec(sourceOf(path))?.[1] ?? "";
  return [...declared.matchAll(/\| "(\w+)"/g)].map(([, word = ""]) => word);
}

describe("the page names", () => {
  test("every cause that :validate can answer", () => {
    const causes = unionIn("src/core/diagnosis-failures.ts", "Cause");
    expect(causes.length).toBeGreaterThan(15);
    expect(causes.filter((cause) => !page.text.includes(`\`${cause}\``))).toEqual([]);
    const api = sourceOf("docs/http-api.md");
    const listed = /is one of `([a-z_\s]+)`/.exec(api)?.[1]?.split(/\s+/) ?? [];
    expect(causes.filter((cause) => !listed.includes(cause))).toEqual([]);
  });

  test("every number of an error of Entra that has a sentence of ours", () => {
    const lists = sourceOf("src/secrets/entra-errors.ts").matchAll(/codes: \[([\d, ]+)\]/g);
    const codes = [...lists].flatMap(([, list = ""]) => list.split(", "));
    expect(codes.length).toBeGreaterThan(40);
    const [, table = ""] = /^\| AADSTS \|(.*?)^$/ms.exec(page.text) ?? [];
    const named = [...table.matchAll(/^\| ([\d, ]+) \|/gm)].flatMap(([, list = ""]) => list.split(", "));
    expect(named.toSorted()).toEqual(codes.toSorted());
  });

  test("every reason for which a token of a caller is refused", () => {
    const reasons = [
      ...unionIn("src/core/token-verification.ts", "TokenFault"),
      ...unionIn("src/core/caller-tokens.ts", "Refusal"),
    ];
    expect(reasons.length).toBeGreaterThan(15);
    expect(reasons.filter((reason) => !page.text.includes(`\`${reason}\``))).toEqual([]);
  });

  test("every reason for which a grant ends", () => {
    const source = sourceOf("src/core/diagnosis-grants.ts");
    const reasons = [...source.matchAll(/\((\w+_\w+)\)"/g)].map(([, reason = ""]) => reason);
    expect(new Set(reasons).size).toBe(6);
    expect(reasons.filter((reason) => !page.text.includes(`\`${reason}\``))).toEqual([]);
  });

  test("is found from the pages that lead there", () => {
    for (const path of ["README.md", "docs/http-api.md", "docs/configuration.md"])
      expect([path, sourceOf(path).includes("azure.md)")]).toEqual([path, true]);
  });

  test("no place of its own that is not there", () => {
    const links = [...page.text.matchAll(/\]\(#([^)]+)\)/g)].map(([, anchor = ""]) => anchor);
    expect(links.filter((anchor) => !page.anchors.has(anchor))).toEqual([]);
    const away = [...page.text.matchAll(/\]\(([\w-]+\.md)#([^)]+)\)/g)];
    expect(away.length).toBeGreaterThan(1);
    for (const [, file = "", anchor = ""] of away) {
      expect([file, anchor, readPage(`docs/${file}`).anchors.has(anchor)]).toEqual([file, anchor, true]);
    }
  });

  test("what Entra says of a failure, in the words of the table", () => {
    const sentences = [
      "the operator's list does not name them together.",
      "no managed identity endpoint answers on this host",
      "this host has no such managed identity",
      "This agent has no identity in Microsoft Entra",
      "Nothing exchanges users' tokens for this project",
      "The user's token is of another tenant",
      "wants tokens to be asked for at another host",
      "is busy or fails for now",
    ];
    const files = ["entra-errors", "entra-targets", "entra", "entra-on-behalf-of"];
    const source = files.map((name) => sourceOf(`src/secrets/${name}.ts`)).join("\n");
    for (const sentence of sentences) {
      expect([sentence, page.says(sentence), source.includes(sentence)]).toEqual([sentence, true, true]);
    }
  });
});

test("the page says what a vault's failures say", () => {
  const source = sourceOf("src/secrets/keyvault-failures.ts") + sourceOf("src/secrets/secret-sources.ts");
  for (const sentence of [
    "the vault forbids it to the broker's identity (",
    "the vault has no such secret (404)",
    "it is disabled (403)",
    "the vault does not answer",
    "the vault asks to wait (429)",
    "the broker's own identity got no token for it",
    "is not lent to ",
  ]) {
    expect([sentence, page.says(sentence), source.includes(sentence)]).toEqual([sentence, true, true]);
  }
});

describe("what the page shows", () => {
  let app: TestApp;
  let authority: AzureAuthority;
  beforeAll(async () => {
    authority = await startAzureAuthority();
    authority.trust();
    app = await createTestApp({ secretSources: lent });
  });
  afterAll(async () => {
    await app.stop();
    await authority.stop();
  });

  const of = (member: string) => blocks.filter((block) => member in block);

  test("is of a kind that is known here", () => {
    const known = ["identities", "properties", "issuers", "signIn"].flatMap(of);
    expect(blocks.filter((block) => !known.includes(block))).toEqual([]);
    expect(known.length).toBeGreaterThan(10);
  });

  test("is taken for CONSENTRY_AZURE", () => {
    for (const block of of("identities"))
      expect(parseAzure(JSON.stringify(block))).toMatchObject({ faults: [] });
  });

  test("is taken for settings, one after the other", async () => {
    for (const block of [...of("issuers"), ...of("signIn")]) {
      const answer = await app.send("PATCH", "/api/projects/default/settings", { body: block });
      expect([answer.status, answer.text]).toEqual([200, expect.stringContaining("corp")]);
    }
  });

  // With the callers' issuers of above: no connection may have tokens for their audiences.
  test("is taken for connections, with the metadata of an authority that is one of Entra's kind", async () => {
    for (const [at, block] of of("properties").entries()) {
      const body = JSON.stringify(block).replaceAll(LOGIN, authority.url);
      const answer = await app.send("PUT", `/api/projects/default/connections/shown-${at}`, { body });
      const target = /"target":"https:\/\/([^/"]+)/.exec(body)?.[1] ?? "no target";
      expect([answer.status, answer.text]).toEqual([200, expect.stringContaining(target)]);
    }
    const [passed] = of("properties").filter(({ properties }) =>
      JSON.stringify(properties).includes("assume-S256"),
    );
    expect(passed).toMatchObject({ properties: { provider: "entra", resource: "omit" } });
  });

  test("names hosts and audiences of connections together wherever it lists targets", () => {
    const targets = of("identities").flatMap(
      ({ targets: listed }) => listed as { host: string; audience: string }[],
    );
    const pairs = targets.map(({ host, audience }) => `${host} ${audience}`);
    const connections = of("properties").map(({ properties }) => properties as Record<string, unknown>);
    const wanted = connections.flatMap(({ target, audience }) =>
      typeof audience === "string" && audience !== "api://AzureADTokenExchange"
        ? [`${new URL(String(target)).host} ${audience}`]
        : [],
    );
    expect(wanted.filter((pair) => !pairs.includes(pair))).toEqual([]);
  });
});
