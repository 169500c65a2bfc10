import { expect, test } from "vitest";
import type { Minted } from "../../src/core/machine-identity.ts";
import { createMintedTokens, type Mint } from "../../src/core/minted-tokens.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const principal = { issuer: "https://issuer.example", subject: "s", clientId: null, tenant: null };

/** Tokens `t1`, `t2` … of an hour each, and a clock that a test moves. */
function createDesk() {
  const state = { now: 1_000_000, made: 0, fails: null as Minted | null, lifeMs: HOUR };
  const asked: { fresh: boolean }[] = [];
  const mint: Mint = async ({ fresh }) => {
    asked.push({ fresh });
    if (state.fails) return state.fails;
    state.made++;
    return { ok: true, token: `t${state.made}`, expiresAt: state.now + state.lifeMs, principal };
  };
  const desk = createMintedTokens({ clock: { now: () => state.now, sleep: () => new Promise(() => {}) } });
  const token = async (key = "k") => tokenOf(await desk.get(key, mint));
  return { state, asked, desk, mint, token };
}

const tokenOf = (minted: Minted | null) => (minted?.ok ? minted.token : (minted?.message ?? null));
const away = (transient: boolean): Minted => ({ ok: false, transient, message: "away", claims: null });

test("two hundred who ask at once are given one token, made once", async () => {
  const { asked, token } = createDesk();
  const tokens = await Promise.all(Array.from({ length: 200 }, () => token()));
  expect(new Set(tokens)).toEqual(new Set(["t1"]));
  expect(asked).toHaveLength(1);
});

test("what is remembered under one key is nothing to another", async () => {
  const { token } = createDesk();
  expect([await token("project"), await token("agent"), await token("project")]).toEqual(["t1", "t2", "t1"]);
});

test("a token is made anew five minutes before its end, a short one when a tenth of its life is left", async () => {
  const { state, token } = createDesk();
  await token();
  state.now += HOUR - 5 * MINUTE - 1;
  expect(await token()).toBe("t1");
  state.now += 1;
  expect(await token()).toBe("t2");

  const short = createDesk();
  short.state.lifeMs = 10 * MINUTE;
  await short.token();
  short.state.now += 9 * MINUTE - 1;
  expect(await short.token()).toBe("t1");
  short.state.now += 1;
  expect(await short.token()).toBe("t2");
});

test("while another cannot be had, the old one serves until its end and not a moment longer", async () => {
  const { state, token } = createDesk();
  await token();
  state.fails = away(true);
  state.now += HOUR - 1;
  expect(await token()).toBe("t1");
  state.now += 1;
  expect(await token()).toBe("away");
});

test("what failed is not asked for by every call: seconds where it passes by itself, longer where somebody must mend it", async () => {
  const { state, asked, token } = createDesk();
  state.fails = away(true);
  await token();
  state.now += 2_999;
  await token();
  expect(asked).toHaveLength(1);
  state.now += 1;
  await token();
  expect(asked).toHaveLength(2);

  state.fails = away(false);
  state.now += 3_000;
  await token();
  state.now += 9_999;
  await token();
  expect(asked).toHaveLength(3);
  state.fails = null;
  state.now += 1;
  expect(await token()).toBe("t1");
});

test("a token that a server turned down is made anew, past every memory, and once for all whom it turned down", async () => {
  const { state, asked, desk, mint, token } = createDesk();
  await token();
  state.now += MINUTE;
  const options = { mint, claims: null };
  const next = await Promise.all([desk.instead("k", "t1", options), desk.instead("k", "t1", options)]);
  expect(next.map(tokenOf)).toEqual(["t2", "t2"]);
  expect(asked).toEqual([{ fresh: false }, { fresh: true }]);
  // Who comes late with the old one is given the new one.
  expect(tokenOf(await desk.instead("k", "t1", options))).toBe("t2");
});

test("a server that turns every token down does not make one for each call", async () => {
  const { asked, desk, mint, token } = createDesk();
  await token();
  expect(await desk.instead("k", "t1", { mint, claims: null })).toBeNull();
  expect(asked).toHaveLength(1);
});

test("a claims challenge is answered at once, and the same one again is not", async () => {
  const { asked, desk, mint, token } = createDesk();
  await token();
  expect(tokenOf(await desk.instead("k", "t1", { mint, claims: "{}" }))).toBe("t2");
  expect(await desk.instead("k", "t2", { mint, claims: "{}" })).toBeNull();
  expect(await token()).toBe("t2");
  expect(asked).toHaveLength(2);
});

test("whom a server turned down is not given what others asked for without its claims, or out of a memory", async () => {
  const { state, asked, desk, mint, token } = createDesk();
  await token();
  // It is time for another one, which somebody fetches just now.
  state.now += HOUR - MINUTE;
  const [renewed, fresh, claimed] = await Promise.all([
    token(),
    desk.instead("k", "t1", { mint, claims: null }),
    desk.instead("k", "t1", { mint, claims: "{}" }),
  ]);
  expect(asked.map((each) => each.fresh)).toEqual([false, false, true, true]);
  expect(new Set([renewed, tokenOf(fresh), tokenOf(claimed)]).size).toBe(3);
});

test("a token that comes late does not take the place of one that was made afresh meanwhile", async () => {
  const { state, desk, mint, token } = createDesk();
  await token();
  state.now += HOUR - MINUTE;
  const late = Promise.withResolvers<Minted>();
  const slow = desk.get("k", () => late.promise);
  expect(tokenOf(await desk.instead("k", "t1", { mint, claims: null }))).toBe("t2");
  late.resolve({ ok: true, token: "t1", expiresAt: state.now + HOUR, principal });
  expect(tokenOf(await slow)).toBe("t2");
  expect(await token()).toBe("t2");
});

test("who leaves does not take the token of those who wait along, and a maker that throws is asked again", async () => {
  const { desk, mint } = createDesk();
  const broken: Mint = async () => {
    throw new Error("a bug");
  };
  await expect(desk.get("k", broken)).rejects.toThrow("a bug");
  expect(tokenOf(await desk.get("k", mint))).toBe("t1");
});

test("a token whose maker ended with its request is made anew by whoever waits for it, once", async () => {
  const moved = scriptedClock();
  const desk = createMintedTokens({ clock: { ...moved, cutsAfterMs: 25_000 } });
  let made = 0;
  const mint: Mint = async () => ({
    ok: true,
    token: `t${++made}`,
    expiresAt: moved.now() + HOUR,
    principal,
  });
  void desk.get("k", () => new Promise(() => {}));
  const waiting = [desk.get("k", mint), desk.get("k", mint)];
  moved.advance(25_000);
  expect((await Promise.all(waiting)).map(tokenOf)).toEqual(["t1", "t1"]);
  expect(tokenOf(await desk.get("k", mint))).toBe("t1");
});
