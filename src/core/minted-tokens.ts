import { createCache } from "./cache.ts";
import { createUnderWay } from "./joined.ts";
import type { Minted, MintFailure } from "./machine-identity.ts";
import type { World } from "./ports.ts";

/** How a token is made. `fresh`: a server turned down the one that was remembered, wherever it was remembered. */
export type Mint = (options: { fresh: boolean; signal: AbortSignal }) => Promise<Minted>;

/** Tokens that can be had again at any time, and so are never stored: those of identities, of clients, and exchanged ones. */
export type MintedTokens = {
  /**
   * The token that is remembered under `key`, until shortly before its end; else one that is made now, once for all that
   * ask meanwhile. What failed is not tried again for some seconds. A token that has not ended serves on while another
   * cannot be had; but for those seconds it does not, where a server turned it down and the issuer wants more of the person.
   */
  get: (key: string, mint: Mint) => Promise<Minted>;
  /**
   * The server turned `token` down: the one that has taken its place, else a new one. `claims`: what it asked for, and what
   * `mint` asks with. Null: it was made a moment ago with just that, so that another would be turned down as well.
   */
  instead: (
    key: string,
    token: string,
    options: { mint: Mint; claims: string | null },
  ) => Promise<Minted | null>;
};

type Making = { mint: Mint; fresh: boolean; claims: string | null };
/** `claims`: what a server had asked for. */
type Failed = { minted: MintFailure; claims: string | null };
type Kept = { minted: Minted & { ok: true }; madeAt: number; claims: string | null };

export function createMintedTokens({ clock }: Pick<World, "clock">): MintedTokens {
  const tokens = createCache<Kept>({ max: MAX_TOKENS, now: clock.now });
  const failed = createCache<Failed>({ max: MAX_TOKENS, now: clock.now });
  const underWay = createUnderWay<string, Minted>(clock);

  async function make(key: string, { mint, fresh, claims }: Making): Promise<Minted> {
    const before = tokens.get(key);
    // Nobody's own signal: others wait for the same token.
    const minted = await mint({ fresh, signal: AbortSignal.timeout(MINT_MS) });
    const now = clock.now();
    if (!minted.ok) {
      failed.set(key, { minted, claims }, { ttlMs: minted.transient ? TRANSIENT_MS : LASTING_MS });
      return minted;
    }
    // One that was made afresh meanwhile stays: this one may be what a server has just turned down.
    const newer = fresh ? undefined : tokens.get(key);
    if (newer && newer !== before) return newer.minted;
    const ttlMs = minted.expiresAt - now;
    if (ttlMs > 0) tokens.set(key, { minted, madeAt: now, claims }, { ttlMs });
    return minted;
  }

  function makeOnce(key: string, making: Making): Promise<Minted> {
    // What is asked for otherwise is another token: a server that turned one down, or wants claims, would turn that down, too.
    const same = JSON.stringify([key, making.fresh, making.claims]);
    return underWay.join(same, { begin: () => make(key, making), withinMs: MINT_MS + AROUND_MINT_MS });
  }

  return {
    get: async (key, mint) => {
      const kept = tokens.get(key);
      const before = failed.get(key);
      if (before && before.claims !== null && before.minted.claims !== null) return before.minted;
      if (kept && !isDue(kept, clock.now())) return kept.minted;
      const minted = before?.minted ?? (await makeOnce(key, { mint, fresh: false, claims: null }));
      // About to end is not ended.
      return !minted.ok && kept && kept.minted.expiresAt > clock.now() ? kept.minted : minted;
    },
    instead: async (key, token, { mint, claims }) => {
      const kept = tokens.get(key);
      if (kept && kept.minted.token !== token) return kept.minted;
      if (kept && kept.claims === claims && clock.now() - kept.madeAt < FRESH_TOKEN_MS) return null;
      return failed.get(key)?.minted ?? makeOnce(key, { mint, fresh: true, claims });
    },
  };
}

/** Five minutes before its end, of a short one a tenth of its life. */
function isDue({ minted: { expiresAt }, madeAt }: Kept, now: number): boolean {
  return now >= expiresAt - Math.min(AHEAD_MS, (expiresAt - madeAt) / 10);
}

const MAX_TOKENS = 10_000;
const MINT_MS = 20_000;
/** What is read and opened on the way, which has limits of its own. */
const AROUND_MINT_MS = 60_000;
const AHEAD_MS = 5 * 60_000;
/** What passes by itself, and what somebody has to mend, is not asked for by every call. */
const TRANSIENT_MS = 3_000;
const LASTING_MS = 10_000;
/** One new token for a server that turns every one down, not one for each call. */
const FRESH_TOKEN_MS = 30_000;
