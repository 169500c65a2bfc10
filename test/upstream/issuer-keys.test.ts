import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { createIssuerKeys } from "../../src/upstream/issuer-keys.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";

const KEY = { kty: "EC", crv: "P-256", x: "eA", y: "eQ", kid: "k1", use: "sig" };
const METADATA = "/tenant/.well-known/openid-configuration";
const KEYS = "/keys";

let server: HttpServer;
let egress: ReturnType<typeof createNodeEgress>;
let now: number;
let waits: (() => void)[];
let answers: Record<string, { status?: number; body: unknown } | "hang">;
let logs: [string, Record<string, unknown>][];
beforeEach(async () => {
  [now, logs, waits] = [1_000_000, [], []];
  server = await startHttpServer(({ path }, response) => {
    const answer = answers[path] ?? { status: 404, body: {} };
    if (answer === "hang") return;
    response.writeHead(answer.status ?? 200).end(JSON.stringify(answer.body));
  });
  answers = {
    [METADATA]: { body: { issuer: issuer(), jwks_uri: `${server.url}${KEYS}` } },
    [KEYS]: { body: { keys: [KEY] } },
  };
  egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
});
afterEach(async () => {
  await egress.close();
  await server.stop();
});

const issuer = () => `${server.url}/tenant`;
const create = (urlFault: (url: string) => string | null = () => null) =>
  createIssuerKeys({
    egress,
    clientInfo: { name: "consentry", version: "0.0.0" },
    urlFault,
    clock: {
      cutsAfterMs: 25_000,
      now: () => now,
      sleep: () => new Promise((resolve) => waits.push(resolve)),
    },
    log: (_, event, fields = {}) => logs.push([event, fields]),
  });
const source = (tenant: string | null = null) => ({ issuer: issuer(), tenant });
const asked = () => server.requests.map(({ path }) => path);
const unavailable = { code: "unavailable" };

describe("an issuer's keys", () => {
  test("are where its metadata say, and remembered for ten minutes", async () => {
    const keys = create();
    const set = await keys.of(source());
    expect(set.keys).toEqual([KEY]);
    now += 10 * 60_000 - 1;
    expect(await keys.of(source())).toBe(set);
    expect(asked()).toEqual([METADATA, KEYS]);
    now += 1;
    expect(await keys.of(source())).toBe(set);
    expect(asked()).toEqual([METADATA, KEYS, METADATA, KEYS]);
  });

  test("are where RFC 8414 puts them, too", async () => {
    const place = "/.well-known/oauth-authorization-server/tenant";
    answers[place] = answers[METADATA] ?? "hang";
    delete answers[METADATA];
    expect((await create().of(source())).keys).toEqual([KEY]);
    expect(asked()).toEqual([METADATA, place, KEYS]);
  });

  test("are asked for once, however many wait", async () => {
    const keys = create();
    const sets = await Promise.all(Array.from({ length: 50 }, () => keys.of(source())));
    expect(new Set(sets).size).toBe(1);
    expect(asked()).toEqual([METADATA, KEYS]);
  });

  test("are asked for anew by whoever waits, when the one who asked has ended with its request", async () => {
    const keys = create();
    answers[METADATA] = "hang";
    keys.of(source()).catch(() => {});
    await expect.poll(asked).toHaveLength(1);
    const waiting = [keys.of(source()), keys.of(source())];
    answers[METADATA] = { body: { issuer: issuer(), jwks_uri: `${server.url}${KEYS}` } };
    now += 10_000;
    for (const end of waits) end();
    expect((await Promise.all(waiting)).map((set) => set.keys)).toEqual([[KEY], [KEY]]);
    expect(asked()).toEqual([METADATA, METADATA, KEYS]);
  });

  test("are public ones that can sign, without what stands beside them", async () => {
    const tenant = "11111111-2222-4333-8444-555555555555";
    const rsa = { kty: "RSA", kid: "r", n: "AQ", e: "AQAB" };
    const given = [
      { ...KEY, d: "secret", x5u: "https://evil.example", x5c: ["x"], jku: "https://evil.example" },
      { kty: "oct", k: "secret" },
      { ...rsa, n: "A".repeat(1_367) },
      { ...rsa, use: "enc" },
      { ...rsa, kid: "all", issuer: "https://login.example/{tenantid}/v2.0" },
      { ...rsa, kid: "other", issuer: "https://login.example/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0" },
      { ...rsa, kid: "own", issuer: `https://login.example/${tenant}/v2.0` },
      "no key",
      null,
    ];
    answers[KEYS] = { body: { keys: given } };
    const { keys } = await create().of(source(tenant));
    expect(keys).toEqual([KEY, { ...rsa, kid: "all" }, { ...rsa, kid: "own" }]);
  });
});

describe("a key that is not among them", () => {
  const KEY_2 = { ...KEY, kid: "k2" };

  test("is found after a rotation", async () => {
    const keys = create();
    const set = await keys.of(source());
    answers[KEYS] = { body: { keys: [KEY, KEY_2] } };
    expect((await keys.again(source(), set)).keys).toEqual([KEY, KEY_2]);
    expect(asked()).toEqual([METADATA, KEYS, KEYS]);
  });

  test("is looked for once in 30 seconds, whoever asks and however often", async () => {
    const keys = create();
    const set = await keys.of(source());
    for (let round = 0; round < 3; round++)
      await Promise.all(Array.from({ length: 100 }, () => keys.again(source(), set)));
    expect(asked()).toEqual([METADATA, KEYS, KEYS]);
    now += 29_999;
    expect(await keys.again(source(), set)).toBe(set);
    expect(asked()).toHaveLength(3);
    now += 1;
    expect(await keys.again(source(), set)).toBe(set);
    expect(asked()).toHaveLength(4);
  });

  test("that somebody else has found meanwhile costs nothing", async () => {
    const keys = create();
    const set = await keys.of(source());
    answers[KEYS] = { body: { keys: [KEY_2] } };
    const newer = await keys.again(source(), set);
    expect(await keys.again(source(), set)).toBe(newer);
    expect(asked()).toHaveLength(3);
  });

  test("may be there when the issuer is away: nobody says that it is not", async () => {
    const keys = create();
    const set = await keys.of(source());
    answers[KEYS] = { status: 503, body: {} };
    await expect(keys.again(source(), set)).rejects.toMatchObject(unavailable);
    await expect(keys.again(source(), set)).rejects.toMatchObject(unavailable);
    expect(asked()).toHaveLength(3);
    expect(await keys.of(source())).toBe(set);
  });
});

describe("an issuer that is away", () => {
  test("is served by what is remembered for an hour more, and asked now and then", async () => {
    const keys = create();
    const set = await keys.of(source());
    answers[METADATA] = { status: 500, body: {} };
    now += 10 * 60_000;
    for (let call = 0; call < 20; call++) expect(await keys.of(source())).toBe(set);
    expect(asked()).toHaveLength(3);
    now += 10_000;
    await keys.of(source());
    expect(asked()).toHaveLength(4);
    now += 60 * 60_000 - 10_001;
    expect(await keys.of(source())).toBe(set);
    now += 1;
    await expect(keys.of(source())).rejects.toMatchObject(unavailable);
    expect(logs[0]).toEqual([
      "issuer_keys_unavailable",
      { issuer: issuer(), reason: expect.stringContaining("status 500"), stale: true },
    ]);
  });

  test("from the start is not waited for by every call, and found when it is back", async () => {
    const keys = create();
    const before = answers[METADATA] ?? "hang";
    answers[METADATA] = { status: 502, body: {} };
    for (let call = 0; call < 20; call++) await expect(keys.of(source())).rejects.toMatchObject(unavailable);
    expect(asked()).toEqual([METADATA]);
    answers[METADATA] = before;
    now += 10_000;
    expect((await keys.of(source())).keys).toEqual([KEY]);
  });

  test("that has moved its keys is found by its metadata", async () => {
    const keys = create();
    const set = await keys.of(source());
    answers = {
      [METADATA]: { body: { issuer: issuer(), jwks_uri: `${server.url}/moved` } },
      "/moved": { body: { keys: [{ ...KEY, kid: "k2" }] } },
    };
    await expect(keys.again(source(), set)).rejects.toMatchObject(unavailable);
    now += 30_000;
    expect((await keys.again(source(), set)).keys).toMatchObject([{ kid: "k2" }]);
  });

  test("that hangs is given up, and holds up nobody for long", { timeout: 20_000 }, async () => {
    answers[KEYS] = "hang";
    const keys = create();
    const all = await Promise.allSettled(Array.from({ length: 20 }, () => keys.of(source())));
    expect(new Set(all.map(({ status }) => status))).toEqual(new Set(["rejected"]));
    expect(asked()).toEqual([METADATA, KEYS]);
  });
});

describe("an issuer that lies or floods is refused:", () => {
  const metadata = (body: JsonObject) => ({
    [METADATA]: { body: { issuer: issuer(), jwks_uri: `${server.url}${KEYS}`, ...body } },
  });

  test.each([
    ["metadata of another issuer", () => metadata({ issuer: "https://other.example" })],
    ["metadata of nearly the same issuer", () => metadata({ issuer: `${issuer()}/` })],
    ["metadata without keys", () => metadata({ jwks_uri: null })],
    ["keys at another place than a URL", () => metadata({ jwks_uri: "file:///etc/passwd" })],
    ["keys at a cloud's metadata service", () => metadata({ jwks_uri: "http://169.254.169.254/keys" })],
    ["keys that are no list", () => ({ [KEYS]: { body: { keys: {} } } })],
    ["keys without number", () => ({ [KEYS]: { body: { keys: Array.from({ length: 101 }, () => KEY) } } })],
    ["keys without end", () => ({ [KEYS]: { body: { keys: ["x".repeat(300_000)] } } })],
    ["no JSON", () => ({ [METADATA]: { body: "x" } })],
  ])("%s", async (_, change) => {
    Object.assign(answers, change());
    await expect(create().of(source())).rejects.toMatchObject(unavailable);
    expect(logs.map(([event]) => event)).toEqual(["issuer_keys_unavailable"]);
  });

  test("keys where egress would not go", async () => {
    const keys = create((url) => (url.endsWith(KEYS) ? "not there" : null));
    await expect(keys.of(source())).rejects.toMatchObject(unavailable);
    expect(asked()).toEqual([METADATA]);
  });

  test("keys behind a redirect to another origin", async () => {
    const evil = await startHttpServer((_, response) => response.end(JSON.stringify({ keys: [KEY] })));
    const front = await startHttpServer((_, response) =>
      response.writeHead(302, { location: `${evil.url}/keys` }).end(),
    );
    answers[METADATA] = { body: { issuer: issuer(), jwks_uri: `${front.url}/keys` } };
    await expect(create().of(source())).rejects.toMatchObject(unavailable);
    expect(evil.requests).toEqual([]);
    await Promise.all([front.stop(), evil.stop()]);
  });
});
