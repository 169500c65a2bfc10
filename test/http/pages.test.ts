// What the pages send besides words: headers, cookies, statuses, and who is let in.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createPages, refusedPage } from "../../src/http/pages.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp();
});
afterAll(() => app.stop());

const HERE = `https://${HOST}`;
const get = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  app.raw(new Request(`${HERE}${path}`, { method, headers }));
const post = (
  path: string,
  { form = {}, headers = {} }: { form?: object; headers?: Record<string, string> },
) =>
  app.raw(
    new Request(`${HERE}${path}`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
      body: new URLSearchParams(form as Record<string, string>).toString(),
    }),
  );
const headingOf = async (response: Response) =>
  /<h1><bdi\s*>(.*?)<\/bdi\s*>/s.exec(await response.text())?.[1] ?? "";

describe("every page", () => {
  const paths = [
    "/consent/nonsense",
    "/me",
    "/me/default",
    "/me/default/link/x",
    "/consent/",
    "/oauth/callback/x",
    "/signin/callback",
    "/consent/a/b/c",
  ];

  test.each(paths)("%s is locked down", async (path) => {
    const { headers, status } = await get(path);
    expect(status).toBeOneOf([403, 404]);
    expect(headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(headers.get("content-security-policy")).toBe(
      "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    );
    expect(headers.get("referrer-policy")).toBe("no-referrer");
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("x-frame-options")).toBe("DENY");
    expect(headers.get("cross-origin-opener-policy")).toBe("same-origin");
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("access-control-allow-origin")).toBeNull();
  });

  test("asks for https for ever only where it is public", () => {
    const hsts = (publicUrl: string, local: boolean) =>
      createPages({ publicUrl, local }).show(refusedPage).headers.get("strict-transport-security");
    expect(hsts("https://consentry.example", false)).toBe("max-age=31536000");
    expect(hsts("https://localhost:8787", true)).toBeNull();
    expect(hsts("http://127.0.0.1:8787", true)).toBeNull();
  });

  test("lets forms lead away only where they must", () => {
    const pages = createPages({ publicUrl: HERE, local: true });
    const policy = (formsLeave: boolean) =>
      pages.show({ ...refusedPage, formsLeave }).headers.get("content-security-policy");
    expect(policy(true)).not.toContain("form-action");
    expect(policy(false)).toContain("form-action 'self'");
  });

  test.each(["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "vbscript:x", "nonsense", ""])(
    "never sends anybody to %s",
    (url) => {
      expect(() => createPages({ publicUrl: HERE, local: true }).send(url)).toThrow("http(s)");
    },
  );

  test("has its look, which is the same for all and may be kept", async () => {
    const css = await get("/pages.css");
    expect(css.headers.get("content-type")).toBe("text/css; charset=utf-8");
    expect(css.headers.get("cache-control")).toBe("public, max-age=3600");
    expect((await get("/pages.svg")).headers.get("content-type")).toBe("image/svg+xml");
  });

  test("that takes another method says so, as a page", async () => {
    const answer = await app.raw(new Request(`${HERE}/consent/x`, { method: "PUT" }));
    expect(answer.status).toBe(405);
    expect(answer.headers.get("allow")).toBe("GET, POST");
    expect(answer.headers.get("content-type")).toBe("text/html; charset=utf-8");
  });
});

describe("a ticket", () => {
  test("that we did not make is 404, however it is spelt", async () => {
    const digits = "a".repeat(50);
    for (const ticket of [
      "x",
      digits,
      `${digits}.`,
      `${digits}.${"A".repeat(43)}`,
      "%00",
      "..%2f..",
      "x".repeat(5000),
    ]) {
      const answer = await get(`/consent/${ticket}`);
      expect([ticket.slice(0, 20), answer.status]).toEqual([ticket.slice(0, 20), 404]);
      expect(await headingOf(answer)).toBe("There is nothing at this link");
    }
    expect(app.logs.filter(({ event }) => event === "request_failed")).toEqual([]);
  });
});

describe("an address without its end", () => {
  test.each([
    ["/me", "/me/default"],
    ["/me/", "/me/default"],
    ["/consent", "after /consent/"],
    ["/consent/", "after /consent/"],
  ])("%s says what is missing", async (path, words) => {
    const answer = await get(path);
    expect(answer.status).toBe(404);
    expect(await answer.text()).toContain(words);
  });
});

describe("a form", () => {
  const browser = `__Host-consentry-browser=${"A".repeat(43)}`;
  const sent = (headers: Record<string, string>, form = { action: "allow", csrf: "c" }) =>
    post("/consent/x", { form, headers: { cookie: browser, ...headers } });

  test("comes from a page of ours, by its origin or by the browser's word", async () => {
    for (const headers of [
      { origin: HERE },
      { origin: "null", "sec-fetch-site": "same-origin" },
      { "sec-fetch-site": "same-origin" },
    ])
      expect([headers, (await sent(headers)).status]).toEqual([headers, 404]);
  });

  test("from anywhere else is refused", async () => {
    for (const headers of [
      {},
      { origin: "null" },
      { origin: "null", "sec-fetch-site": "same-site" },
      { origin: "null", "sec-fetch-site": "cross-site" },
      { "sec-fetch-site": "same-site" },
      { "sec-fetch-site": "none" },
      { origin: "https://evil.example", "sec-fetch-site": "same-origin" },
      { origin: `http://${HOST}` },
      { origin: `https://${HOST}:8443` },
      { origin: `https://${HOST}.evil.example` },
    ] as Record<string, string>[])
      expect([headers, (await sent(headers)).status]).toEqual([headers, 403]);
  });

  test("is refused before it is read, and is small", async () => {
    const big = { action: "allow", csrf: "c".repeat(20_000) };
    expect((await sent({ origin: "https://evil.example" }, big)).status).toBe(403);
    expect((await sent({ origin: HERE }, big)).status).toBe(413);
  });

  test("that asks for something else, or is none, is 400", async () => {
    expect((await sent({ origin: HERE }, { action: "toString", csrf: "c" })).status).toBe(400);
    expect((await sent({ origin: HERE }, { action: "", csrf: "c" })).status).toBe(400);
    expect((await sent({ origin: HERE, "content-type": "application/json" })).status).toBe(400);
    expect((await sent({ origin: HERE, "content-type": "text/plain" })).status).toBe(400);
    expect(
      (await post("/me/default", { form: { action: "explode" }, headers: { origin: HERE } })).status,
    ).toBe(400);
  });

  test("without its token is refused", async () => {
    for (const action of ["disconnect", "leave", "sign_in"]) {
      const form = { action, grant: "grant_1", csrf: "x" };
      expect((await post("/me/default", { form, headers: { origin: HERE, cookie: browser } })).status).toBe(
        403,
      );
    }
  });
});

describe("HEAD", () => {
  test("uses up nothing, and gives no cookie", async () => {
    for (const path of [
      "/consent/x",
      "/oauth/callback/x?state=s&code=c",
      "/me/default/link/x",
      "/signin/callback?state=s",
    ]) {
      const answer = await get(path, {}, "HEAD");
      expect([path, answer.status]).toEqual([path, 200]);
      expect(answer.headers.get("set-cookie")).toBeNull();
      expect(await answer.text()).toBe("");
    }
  });
});

describe("links into /me", () => {
  const linkFor = async (user: unknown, sending: object = {}) =>
    app.send("POST", "/api/projects/default/me-links", { body: { user }, ...sending });

  test("are for callers who may act for users", async () => {
    const made = await linkFor("ann");
    expect(made.status).toBe(200);
    expect(made.body).toEqual({
      url: expect.stringMatching(/^https:\/\/broker\.test\/me\/default\/link\/[\w-]{43}$/),
      expiresAt: expect.stringMatching(/Z$/),
    });
    const { key } = await app.makeKey({ roles: ["runtime"] });
    expect((await linkFor("ann", { key })).status).toBe(403);
    expect((await linkFor("", {})).status).toBe(400);
    expect((await linkFor("a\u202Eb", {})).status).toBe(400);
  });

  test("give their browser a cookie that no other host can set or read", async () => {
    const { body } = await linkFor("ann");
    const { url } = body as { url: string };
    const shown = await get(new URL(url).pathname);
    expect(shown.headers.getSetCookie()).toEqual([
      expect.stringMatching(
        /^__Host-consentry-browser=[\w-]{43}; Max-Age=3600; Path=\/; HttpOnly; Secure; SameSite=Lax$/,
      ),
    ]);
    const csrf = /name="csrf" value="([^"]+)"/.exec(await shown.text())?.[1] ?? "";
    const cookie = shown.headers.getSetCookie()[0]?.split(";")[0] ?? "";
    const opened = await post(new URL(url).pathname, { form: { csrf }, headers: { origin: HERE, cookie } });
    expect(opened.status).toBe(303);
    expect(opened.headers.get("location")).toBe(`${HERE}/me/default`);
    expect(opened.headers.getSetCookie().at(-1)).toMatch(
      /^__Host-consentry-me=[\w-]{43}; Max-Age=900; Path=\/; HttpOnly; Secure; SameSite=Lax$/,
    );
    expect(app.logs.map((line) => JSON.stringify(line)).join()).not.toContain(url.split("/").at(-1));
  });

  test("are not opened by another browser's form", async () => {
    const { body } = await linkFor("ann");
    const path = new URL((body as { url: string }).url).pathname;
    const shown = await get(path);
    const csrf = /name="csrf" value="([^"]+)"/.exec(await shown.text())?.[1] ?? "";
    const cookie = `__Host-consentry-browser=${"A".repeat(43)}`;
    expect((await post(path, { form: { csrf }, headers: { origin: HERE, cookie } })).status).toBe(403);
    expect((await get(path)).status).toBe(200);
  });
});

describe("consents:confirm", () => {
  const confirm = (body: unknown, sending: object = {}) =>
    app.send("POST", "/api/projects/default/consents:confirm", { body, ...sending });

  test("is one dull 403 for all that is wrong", async () => {
    const { key } = await app.makeKey({ roles: ["runtime"], rights: ["act_for_users"] });
    const { key: rightless } = await app.makeKey({ roles: ["runtime"] });
    const answers = await Promise.all([
      confirm({ code: "nonsense", user: "ann" }, { key }),
      confirm({ code: "A".repeat(43), user: "ann" }, { key }),
      confirm({ code: "A".repeat(43), user: "ann" }, { key: rightless }),
      confirm({ code: "A".repeat(43), user: "a\u202Eb" }, { key }),
    ]);
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    expect(answers[0]?.status).toBe(403);
  });

  test("is exactly that path", async () => {
    expect((await app.send("GET", "/api/projects/default/consents:confirm")).status).toBe(405);
    for (const path of [
      "consents",
      "consents:",
      "consents:other",
      "consentsconfirm",
      "consents:confirmed",
      "consents%3Aother",
    ])
      expect([path, (await app.send("POST", `/api/projects/default/${path}`, { body: {} })).status]).toEqual([
        path,
        404,
      ]);
  });
});

describe("the client document", () => {
  test("is of redirect ids that somebody has, byte for byte at its own URL", async () => {
    const id = "0123456789abcdef0123456789abcdef";
    expect((await get(`/oauth/client/${id}`)).status).toBe(404);
    await app.world.store.redirects.ensure({ kind: "connector", name: "c" }, id, Date.now());
    const answer = await get(`/oauth/client/${id}`);
    expect(answer.headers.get("content-type")).toContain("application/json");
    expect(answer.headers.get("cache-control")).toBe("public, max-age=3600");
    expect(await answer.json()).toEqual({
      client_id: `${HERE}/oauth/client/${id}`,
      client_name: "Consentry",
      client_uri: HERE,
      redirect_uris: [`${HERE}/oauth/callback/${id}`],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      application_type: "web",
    });
  });
});

describe("limits", () => {
  test("count visitors by address, and those who guess", async () => {
    const limited = await createTestApp({ rateLimits: { perCaller: 0, perAddress: 5 } });
    try {
      const ask = (path: string, address: string) => limited.raw(new Request(`${HERE}${path}`), address);
      for (let tries = 0; tries < 5; tries++) expect((await ask("/consent/x", "192.0.2.9")).status).toBe(404);
      const late = await ask("/consent/x", "192.0.2.9");
      expect(late.status).toBe(429);
      expect(Number(late.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(late.headers.get("content-type")).toBe("text/html; charset=utf-8");
      expect((await ask("/consent/x", "192.0.2.10")).status).toBe(404);
      expect((await ask("/pages.css", "192.0.2.9")).status).toBe(200);
    } finally {
      await limited.stop();
    }
  });

  test("count those who ask for the document of a client", async () => {
    const limited = await createTestApp({ rateLimits: { perCaller: 0, perAddress: 3 } });
    try {
      const ask = () => limited.raw(new Request(`${HERE}/oauth/client/${"a".repeat(32)}`), "192.0.2.9");
      for (let tries = 0; tries < 3; tries++) expect((await ask()).status).toBe(404);
      const late = await ask();
      expect(late.status).toBe(429);
      expect(late.headers.get("content-type")).toContain("json");
    } finally {
      await limited.stop();
    }
  });

  test.each(["/oauth/callback/x?state=s&code=c", "/signin/callback?state=s&code=c"])(
    "let people come back whose address others have used up: %s",
    async (path) => {
      const limited = await createTestApp({ rateLimits: { perCaller: 0, perAddress: 3 } });
      try {
        const ask = async (asked: string) =>
          (await limited.raw(new Request(`${HERE}${asked}`), "192.0.2.9")).status;
        for (let visits = 0; visits < 4; visits++) await ask("/me/default");
        expect(await ask("/me/default")).toBe(429);
        const returned = await ask(path);
        expect(returned).not.toBe(429);
        for (let returns = 0; returns < 3; returns++) await ask(path);
        expect(await ask(path)).toBe(429);
      } finally {
        await limited.stop();
      }
    },
  );
});
