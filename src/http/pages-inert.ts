import { html } from "hono/html";

/** Text that is safe inside a page: what hono's tag gives. */
export type Markup = ReturnType<typeof html>;

/**
 * Words of others, whole and harmless (A22): what does not show, turns text around, or passes for another letter stands there
 * as its number. Isolated, so that right-to-left letters move nothing around them.
 */
export function inert(text: string): Markup {
  return html`<bdi
    >${piecesOf(text).map((piece) => (piece.odd ? html`<span class="odd">${piece.text}</span>` : piece.text))}</bdi
  >`;
}

/** The same without markup, for a title. */
export function inertText(text: string): string {
  return piecesOf(text)
    .map((piece) => piece.text)
    .join("");
}

/** A host is ASCII as a URL gives it; anything else is shown as what it is. */
export function hostOf(host: string): Markup {
  return html`<span class="host">${inert(host)}</span>`;
}

type Piece = { odd: boolean; text: string };

function piecesOf(text: string): Piece[] {
  const unlike = LATIN.test(text) ? LOOKALIKE : null;
  const pieces: Piece[] = [];
  for (const character of text) {
    const odd = UNSEEN.test(character) || unlike?.test(character) === true;
    const shown = odd ? `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}` : character;
    const last = pieces.at(-1);
    if (last?.odd === odd) last.text += shown;
    else pieces.push({ odd, text: shown });
  }
  return pieces;
}

// Controls, formats, lone surrogates, unassigned and private ones; separators and blanks other than the plain space; all
// that Unicode says may be ignored when shown, and Braille's blank.
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/u;
const LATIN = /\p{Script=Latin}/u;
// Letters of scripts that are taken for Latin ones, and Latin or signs of another width or style; only next to Latin letters.
const LOOKALIKE =
  /[\p{Script=Cyrillic}\p{Script=Greek}\p{Script=Armenian}\p{Script=Cherokee}\p{Script=Coptic}\u{ff01}-\u{ff5e}\u{1d400}-\u{1d7ff}\u{2024}\u{2044}\u{2215}\u{29f8}\u{a789}\u{2236}]/u;
