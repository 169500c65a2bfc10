import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { challengeOf, readChallenges } from "../../src/upstream/mcp-challenge.ts";
import { measureComputing } from "../helpers/computing.ts";
import { startRawServer } from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, type TestUpstream, within } from "../helpers/mcp-upstream.ts";

const read = (header: string | null) => challengeOf(header, () => false);
const NOTHING = { error: null, scope: null, resourceMetadata: null };

describe("a challenge", () => {
  test.each<[string, string, object]>([
    ["Bearer alone", "Bearer", NOTHING],
    [
      "all that counts",
      'Bearer error="insufficient_scope", scope="a b", resource_metadata="https://m.example/x"',
      { error: "insufficient_scope", scope: "a b", resourceMetadata: "https://m.example/x" },
    ],
    ["other cases and spacing", 'bEaReR   Error = "x" ,\tSCOPE="a"', { ...NOTHING, error: "x", scope: "a" }],
    [
      "values without quotes",
      "Bearer error=invalid_token, scope=read",
      { error: "invalid_token", scope: "read" },
    ],
    [
      "a URL without quotes",
      "Bearer resource_metadata=https://m.example/x, error=e",
      {
        resourceMetadata: "https://m.example/x",
        error: "e",
      },
    ],
    ["no commas between parameters", 'Bearer realm="r" error="e" scope="s"', { error: "e", scope: "s" }],
    ["a comma inside a value", 'Bearer realm="a, Basic b=\\"c\\"", scope="s"', { scope: "s" }],
    [
      "a name inside another's value",
      'Bearer realm="scope=admin error=\\"x\\"", scope="s"',
      {
        ...NOTHING,
        scope: "s",
      },
    ],
    [
      "a name that ends like another",
      'Bearer xscope="no", x_error="no", scope="s"',
      { ...NOTHING, scope: "s" },
    ],
    ["escapes", 'Bearer error="a\\b\\c"', { error: "abc" }],
    ["the first of two values", 'Bearer scope="first", scope="second"', { scope: "first" }],
    ["empty list elements", ', ,Bearer , , scope="s", ,', { scope: "s" }],
    ["another scheme before", 'Basic realm="x", Bearer scope="s"', { scope: "s" }],
    [
      "another scheme after",
      'Bearer scope="s", Basic realm="x", scope="of basic", error="e"',
      {
        ...NOTHING,
        scope: "s",
      },
    ],
    ["token68 before", "Negotiate YWJj+/==, Bearer scope=s", { scope: "s" }],
    ["token68 of its own", "Bearer abc==, Bearer scope=s", { scope: "s" }],
    ["a scheme without anything before", "Negotiate, Bearer scope=s", { scope: "s" }],
    ["DPoP, where there is no Bearer", 'DPoP algs="ES256", scope="d"', { scope: "d" }],
    ["Bearer, where there are both", 'DPoP scope="d", Bearer scope="b"', { scope: "b" }],
    ["the Bearer that says something", 'Bearer realm="r", Bearer error="e"', { error: "e" }],
    ["DPoP, where Bearer says nothing", 'Bearer, DPoP scope="d"', { scope: "d" }],
    ["as far as it goes", 'Bearer scope="s", error="never ends', { ...NOTHING, scope: "s" }],
    [
      "only what its grammar allows",
      'Bearer scope="s\u00e9", error="a\\"b", resource_metadata="https://m.example/ x"',
      NOTHING,
    ],
    ["only what is short enough", `Bearer error="${"e".repeat(101)}", scope="s"`, { ...NOTHING, scope: "s" }],
    ["an empty value as none", 'Bearer scope="", error=""', NOTHING],
  ])("is read: %s", (_, header, expected) => {
    expect(read(header)).toMatchObject(expected);
  });

  test.each([
    null,
    "",
    " , ,",
    'Basic realm="x"',
    "Negotiate YWJj==",
    '"Bearer" scope=s',
    "=Bearer",
    "Bearerx scope=s",
  ])("is not there in %j", (header) => {
    expect(read(header)).toBeNull();
  });

  test("is not long for long headers", () => {
    for (const unit of [
      "Bearer ",
      'Bearer a="',
      "a=",
      '"\\',
      "=,",
      "Bearer a",
      '\\"',
      'a="b",',
      "Bearer ====",
      "~~~~ ",
      "Bearer x  \t",
    ]) {
      const header = unit.repeat(200_000);
      const computedMs = measureComputing();
      readChallenges(header.slice(0, 16_384));
      read(header);
      expect(computedMs()).toBeLessThan(500);
    }
  });

  test("whatever is in the header, it is read to its end without a fault", () => {
    const random = createRandom(20_260_728);
    const pieces = [
      "Bearer",
      "bearer ",
      "DPoP",
      "Basic ",
      "scope",
      "error",
      "resource_metadata",
      "=",
      "==",
      '"',
      '\\"',
      "\\",
      ",",
      " ",
      "\t",
      "a",
      "https://m.example/x",
      "é",
      "\u0000",
      "\u2028",
      "YWJj==",
      "~",
      "{",
      "%",
    ];
    let readable = 0;
    for (let round = 0; round < 20_000; round++) {
      const length = Math.floor(random() * 24);
      const header = Array.from({ length }, () => pieces[Math.floor(random() * pieces.length)]).join("");
      const challenge = read(header);
      if (challenge === null) continue;
      readable++;
      expect(header.toLowerCase()).toMatch(/bearer|dpop/);
      const values = [challenge.error, challenge.scope, challenge.resourceMetadata, challenge.claims];
      expect(values.filter((value) => value !== null).join("")).toMatch(/^[\x20-\x7e]*$/);
    }
    expect(readable).toBeGreaterThan(1_000);
  });

  test("round: what is written is what is read", () => {
    const random = createRandom(7);
    const quote = (value: string) => `"${value.replaceAll(/["\\]/g, "\\$&")}"`;
    const text = (alphabet: string) =>
      Array.from(
        { length: 1 + Math.floor(random() * 12) },
        () => alphabet[Math.floor(random() * alphabet.length)],
      ).join("");
    for (let round = 0; round < 2_000; round++) {
      const [error, scope, realm] = [text(WORD), text(`${WORD} ,=`), text(`${WORD}"\\ ,=`)];
      const resourceMetadata = `https://m.example/${text(`${WORD}?=,&`)}`;
      const claims = random() < 0.5 ? btoa(text(WORD)) : `{${text(`${WORD}"\\ ,=`)}}`;
      const params = [
        `realm=${quote(realm)}`,
        `error=${quote(error)}`,
        `scope=${quote(scope)}`,
        `claims=${quote(claims)}`,
      ];
      const all = [...params, `resource_metadata=${quote(resourceMetadata)}`].toSorted(() => random() - 0.5);
      const others = ['Basic realm="x"', "Negotiate", "Digest YWJj=="].filter(() => random() < 0.5);
      const header = [...others, `Bearer ${all.join(random() < 0.5 ? ", " : ",")}`].join(", ");
      expect({ header, ...read(header) }).toEqual({ header, error, scope, resourceMetadata, claims });
    }
  });
});

describe("of a server", () => {
  let upstream: TestUpstream;
  const stops: (() => Promise<void>)[] = [];
  beforeEach(() => {
    upstream = createTestUpstream();
    stops.push(() => upstream.close());
  });
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
  });

  test.each([
    [401, { error: "invalid_token", scope: "read", resourceMetadata: "https://m.example/prm" }],
    [403, { error: "invalid_token", scope: "read", resourceMetadata: "https://m.example/prm" }],
    [404, null],
    [500, null],
  ])("it comes with a failure of status %i: %j", async (status, challenge) => {
    const server = await startRawServer((_, response) => {
      const words = 'Bearer error="invalid_token", scope="read", resource_metadata="https://m.example/prm"';
      response.writeHead(status, { "www-authenticate": ['Basic realm="x"', words] }).end();
    });
    stops.push(server.stop);
    const failure = { kind: "http", status, challenge };
    const access = accessTo(server.url);
    expect(await upstream.listTools(access, within(5_000))).toMatchObject({ ok: false, failure });
    expect(await upstream.callTool(access, callOf("any"), within(5_000))).toMatchObject({
      ok: false,
      failure,
    });
  });
});

const WORD = "abcXYZ019_-.~!#";

/** Numbers from 0 to 1, the same ones for a seed. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
