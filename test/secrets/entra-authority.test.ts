import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { Entra, MachineIdentity } from "../../src/core/machine-identity.ts";
import { refused, type TokenAnswer } from "../helpers/azure-authority.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";
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
} from "../helpers/entra.ts";

let entraTest: TestEntra;
const sales: MachineIdentity = { kind: "project", project: "sales" };
const settings = {
  identities: { main: secretIdentity },
  projects: { sales: project({ identity: "main", onBehalfOf: { identity: "main", app: null } }) },
};
const ask = (entra: Entra = entraTest.make(settings), signal = never()) =>
  entra.token({ identity: sales, audience: AUDIENCE, fresh: false }, signal);
const answers = (answer: TokenAnswer | Promise<TokenAnswer>) => {
  entraTest.authority.knobs.answer = () => answer;
};

beforeAll(async () => {
  entraTest = await startTestEntra();
});
beforeEach(() => {
  entraTest.authority.knobs.answer = () => null;
  entraTest.authority.requests.length = 0;
  entraTest.authority.tokens.length = 0;
});
afterAll(() => entraTest.stop());

describe("what Microsoft Entra refuses becomes a sentence that says what to do", () => {
  test.each([
    ["invalid_client", 7000215, "the client secret of CONSENTRY_AZURE identities.main is wrong"],
    ["invalid_client", 7000222, "the client secret of CONSENTRY_AZURE identities.main has ended"],
    ["invalid_client", 7000218, "must prove itself"],
    ["invalid_client", 700027, "the certificate of CONSENTRY_AZURE identities.main is not one of"],
    ["unauthorized_client", 700016, "is not in its tenant. Check clientId and tenantId"],
    ["unauthorized_client", 7000112, "is disabled"],
    ["invalid_request", 90002, "knows no such tenant. Check tenantId"],
    [
      "invalid_resource",
      500011,
      `the audience ${AUDIENCE} is no resource of the tenant of CONSENTRY_AZURE identities.main`,
    ],
    [
      "invalid_grant",
      65001,
      `nobody consented to the application of CONSENTRY_AZURE identities.main calling ${AUDIENCE}`,
    ],
    ["invalid_grant", 501051, "Assign an app role"],
    ["invalid_grant", 50013, "was not issued for the application"],
    ["invalid_grant", 500133, "The user must sign in again"],
    ["invalid_client", 700213, "no federated credential of the application matches"],
    ["invalid_client", 70021, "no federated credential of the application matches"],
    ["invalid_client", 700024, "has ended or is not valid yet"],
    ["invalid_client", 700222, "cannot vouch for another one"],
    ["unauthorized_client", 82001, "the blueprint of"],
    ["access_denied", 53003, "a conditional access policy does not let"],
    ["invalid_grant", 50076, "wants more of the user's sign-in"],
    ["invalid_grant", 4242, "See https://login.microsoftonline.com/error?code=4242."],
  ])("%s, AADSTS%i", async (error, code, sentence) => {
    answers(refused(error, code, "canary-description", { claims: '{"canary":1}' }));
    const minted = await ask();
    // A machine has nobody who could sign in with claims.
    expect(minted).toMatchObject({ ok: false, transient: false, claims: null });
    expect(shown(minted)).toContain(`AADSTS${code}`);
    expect(shown(minted)).toContain(sentence);
    expect(shown(minted)).not.toContain("canary");
    expect(shown(minted)).not.toContain(SECRET);
  });

  test("the number is found in the description, too", async () => {
    answers({ status: 400, body: { error: "invalid_resource", error_description: "AADSTS500011: canary" } });
    expect(shown(await ask())).toContain("AADSTS500011");
  });

  test("an error that is none of OAuth's words is not repeated", async () => {
    answers({
      status: 400,
      body: { error: "<canary>", error_description: "canary", error_codes: ["canary"] },
    });
    const minted = await ask();
    expect(minted).toMatchObject({ ok: false, transient: false });
    expect(shown(minted)).toContain("an error, status 400");
    expect(shown(minted)).not.toContain("canary");
  });
});

describe("what passes by itself stays for later", () => {
  test.each([500, 502, 503])("%i is tried again, and then left", async (status) => {
    answers({ status, body: { error: "server_error", error_description: "canary" } });
    const minted = await ask();
    expect(minted).toMatchObject({ ok: false, transient: true });
    expect(shown(minted)).not.toContain("canary");
    expect(entraTest.authority.tokens).toHaveLength(3);
  });

  test("429 is not: who is asked for less is asked less", async () => {
    answers({ status: 429, body: {}, headers: { "retry-after": "1" } });
    expect(await ask()).toMatchObject({ ok: false, transient: true });
    expect(entraTest.authority.tokens).toHaveLength(1);
  });

  test("one bad moment is not seen, and none is remembered", async () => {
    const entra = entraTest.make(settings);
    const bad = { status: 503, body: {} };
    const moments: (TokenAnswer | null)[] = [bad, null, bad, bad, bad];
    entraTest.authority.knobs.answer = () => moments.shift() ?? null;
    expect((await ask(entra)).ok).toBe(true);
    expect(await entra.token({ identity: sales, audience: AUDIENCE, fresh: true }, never())).toMatchObject({
      ok: false,
    });
    expect((await ask(entra)).ok).toBe(true);
  });

  test("an authority that is down", async () => {
    const away = await startHttpServer((_, response) => response.end());
    await away.stop();
    const authorityHost = `https://localhost:${away.port}`;
    expect(await ask(entraTest.make({ ...settings, authorityHost }))).toMatchObject({
      ok: false,
      transient: true,
      message: `localhost:${away.port} cannot be reached (CONSENTRY_AZURE identities.main).`,
    });
  });

  test("a slow one: whoever leaves is answered at once", async () => {
    answers(new Promise(() => {}));
    const leaving = new AbortController();
    const pending = ask(entraTest.make(settings), leaving.signal);
    setTimeout(() => leaving.abort(), 100);
    expect(await pending).toMatchObject({ ok: false, transient: true });
    expect(await ask(entraTest.make(settings), AbortSignal.abort())).toMatchObject({
      ok: false,
      transient: true,
    });
  });

  test("a slow one: nobody waits for longer than twenty seconds", async () => {
    const limits: number[] = [];
    const real = AbortSignal.timeout.bind(AbortSignal);
    const spy = vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
      limits.push(ms);
      return real(ms / 100);
    });
    answers(new Promise(() => {}));
    const minted = await ask();
    spy.mockRestore();
    expect(minted).toMatchObject({
      ok: false,
      transient: true,
      message: `${new URL(entraTest.authority.url).host} did not answer in time (CONSENTRY_AZURE identities.main).`,
    });
    expect(new Set(limits)).toEqual(new Set([20_000]));
  });
});

describe("an authority that lies", () => {
  /** An authority whose every answer is this one. */
  async function startLiar(answer: (request: HttpServer["requests"][number], url: string) => Lie): Promise<{
    entra: Entra;
    server: HttpServer;
  }> {
    const server = await startHttpServer((request, response) => {
      const { status = 200, headers = {}, body } = answer(request, url);
      response.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
    }, entraTest.authority);
    const url = server.url.replace("127.0.0.1", "localhost");
    return { server, entra: entraTest.make({ ...settings, authorityHost: url }) };
  }
  type Lie = { status?: number; headers?: Record<string, string>; body: string };
  const metadata = (url: string, tokenEndpoint = `${url}/${TENANT}/oauth2/v2.0/token`) =>
    JSON.stringify({
      issuer: `${url}/${TENANT}/v2.0`,
      authorization_endpoint: `${url}/authorize`,
      token_endpoint: tokenEndpoint,
      jwks_uri: `${url}/keys`,
    });
  const whenAskedForAToken =
    (lie: (url: string) => Lie) =>
    (request: HttpServer["requests"][number], url: string): Lie =>
      request.method === "POST" ? lie(url) : { body: metadata(url) };

  test.each<[string, string]>([
    ["is not JSON", "canary <html>"],
    ["is empty", ""],
    ["is a list", "[]"],
    ["has no token", '{"token_type":"Bearer","expires_in":3600}'],
    ["has an empty token", '{"access_token":"","token_type":"Bearer","expires_in":3600}'],
    ["has a token that is none", '{"access_token":{"canary":1},"token_type":"Bearer","expires_in":3600}'],
    ["has no end", `{"access_token":"${"canary".repeat(100_000)}","expires_in":3600}`],
  ])("gives an answer that %s", async (_, body) => {
    const { entra, server } = await startLiar(whenAskedForAToken(() => ({ body })));
    const minted = await ask(entra);
    expect(minted).toMatchObject({ ok: false, transient: true });
    expect(shown(minted)).toContain("gave an answer that holds no token");
    expect(shown(minted)).not.toContain("canary");
    await server.stop();
  });

  test("floods without end, and is left", async () => {
    const server = await startHttpServer(({ method }, response) => {
      if (method !== "POST") return void response.end(metadata(url));
      const more = () => {
        while (response.write("x".repeat(65_536)));
      };
      response.on("drain", more);
      more();
    }, entraTest.authority);
    const url = server.url.replace("127.0.0.1", "localhost");
    expect(await ask(entraTest.make({ ...settings, authorityHost: url }))).toMatchObject({ ok: false });
    expect(await server.firstClosed).toBeLessThan(50_000_000);
    await server.stop();
  });

  test.each([301, 302, 303, 307, 308])(
    "redirects (%i): the secret does not follow, not even at home",
    async (status) => {
      const elsewhere = await startHttpServer((_, response) => response.end("{}"));
      for (const location of [elsewhere.url, `/${TENANT}/elsewhere`]) {
        const { entra, server } = await startLiar(
          whenAskedForAToken(() => ({ status, headers: { location }, body: "" })),
        );
        expect(await ask(entra)).toMatchObject({ ok: false, transient: false });
        expect(server.requests.map(({ method }) => method)).toEqual(["GET", "POST"]);
        await server.stop();
      }
      expect(elsewhere.requests).toEqual([]);
      await elsewhere.stop();
    },
  );

  test("whose metadata name another host: the secret does not go there", async () => {
    const elsewhere = await startHttpServer((_, response) => response.end("{}"), entraTest.authority);
    const there = elsewhere.url.replace("127.0.0.1", "localhost");
    const { entra, server } = await startLiar((_, url) => ({ body: metadata(url, `${there}/token`) }));
    expect(await ask(entra)).toMatchObject({
      ok: false,
      message: `${new URL(server.url.replace("127.0.0.1", "localhost")).host} wants tokens to be asked for at another host, which is not done. Check authorityHost of CONSENTRY_AZURE, and that AZURE_REGIONAL_AUTHORITY_NAME is not set.`,
    });
    expect(elsewhere.requests).toEqual([]);
    await server.stop();
    await elsewhere.stop();
  });

  test("whose metadata cannot be read", async () => {
    const { entra, server } = await startLiar(() => ({ body: "canary" }));
    const minted = await ask(entra);
    expect(minted).toMatchObject({ ok: false });
    expect(shown(minted)).not.toContain("canary");
    await server.stop();
  });

  test("whose metadata are refused: the number is told all the same", async () => {
    const body = JSON.stringify({
      error: "invalid_tenant",
      error_description: "AADSTS90002: canary",
      error_codes: [90002],
    });
    const { entra, server } = await startLiar(() => ({ status: 400, body }));
    const minted = await ask(entra);
    expect(minted).toMatchObject({ ok: false, transient: false });
    expect(shown(minted)).toContain("AADSTS90002");
    expect(shown(minted)).not.toContain("canary");
    await server.stop();
  });
});

test("nothing of it is printed: Azure's packages log nothing that we did not ask for", async () => {
  const written: string[] = [];
  const spies = (["log", "info", "warn", "error", "debug"] as const).map((level) =>
    vi.spyOn(console, level).mockImplementation((...words) => void written.push(words.join(" "))),
  );
  const stderr = vi
    .spyOn(process.stderr, "write")
    .mockImplementation((text) => written.push(String(text)) > 0);
  const entra = entraTest.make(settings);
  await ask(entra);
  const user = await entraTest.userToken();
  await entra.onBehalfOf(
    { project: "sales", user, audience: AUDIENCE, scopes: null, claims: null, fresh: false },
    never(),
  );
  answers(refused("invalid_client", 7000215, "canary"));
  await entra.token({ identity: sales, audience: AUDIENCE, fresh: true }, never());
  for (const spy of [...spies, stderr]) spy.mockRestore();
  expect(written).toEqual([]);
  for (const { path } of entraTest.authority.requests) expect(path).not.toContain(SECRET);
  expect(entraTest.authority.tokens.map(({ form }) => form.get("client_id"))).toEqual([APP, APP, APP]);
});
