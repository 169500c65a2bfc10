import { publicRoute, type Route } from "./route.ts";

/** What the pages look like: one stylesheet and one small picture, the same for everybody. */
export function styleRoutes(): Route[] {
  return [
    publicRoute({
      method: "GET",
      path: "/pages.css",
      tag: "person",
      summary: "The stylesheet of the pages",
      answers: { 200: { description: "CSS" } },
      handle: () => fixed(CSS, "text/css; charset=utf-8"),
    }),
    publicRoute({
      method: "GET",
      path: "/pages.svg",
      tag: "person",
      summary: "The picture on the pages",
      answers: { 200: { description: "SVG" } },
      handle: () => fixed(SVG, "image/svg+xml"),
    }),
  ];
}

function fixed(text: string, type: string): Response {
  return new Response(text, { headers: { "content-type": type, "cache-control": "public, max-age=3600" } });
}

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect width="24" height="24" rx="6" fill="#0b57d0"/><path d="M6.5 12.5l3.5 3.5 7.5-8" fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round"/></svg>`;

// Contrast: at least 4.5 for text and 3 for edges of controls, in both schemes (WCAG 2.2, 1.4.3 and 1.4.11).
const CSS = `:root {
  color-scheme: light dark;
  --page: #f3f5f8; --card: #fff; --text: #1a1d21; --quiet: #4d5560; --line: #d4d9e0; --edge: #6f7782;
  --main: #0b57d0; --on-main: #fff; --odd: #8a1c1c; --odd-card: #fdecec; --new: #14532d; --new-card: #e3f5e8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101317; --card: #1a1e24; --text: #e9ebee; --quiet: #b3bac4; --line: #363c45; --edge: #8b93a0;
    --main: #8ab4f8; --on-main: #0a1a33; --odd: #ffb4b4; --odd-card: #3d1a1a; --new: #a6e3b8; --new-card: #16331f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; overflow-wrap: anywhere;
}
header, main { max-width: 38rem; margin: 0 auto; }
header { display: flex; align-items: center; gap: .5rem; padding: .5rem 0 1rem; color: var(--quiet); font-weight: 600; }
main { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem; }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.25; }
h2 { margin: 0; font-size: 1.125rem; line-height: 1.3; }
p { margin: 0 0 .75rem; }
dl { margin: 1rem 0; border-top: 1px solid var(--line); }
dl > div { padding: .6rem 0; border-bottom: 1px solid var(--line); }
dt { color: var(--quiet); font-size: .875rem; }
dd { margin: 0; }
.host, code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: .95em; }
dd .host, strong { font-weight: 650; }
ul { margin: 0; padding-left: 1.2rem; }
.odd { color: var(--odd); background: var(--odd-card); border-radius: 3px; font-family: ui-monospace, monospace; font-size: .875em; }
.new { color: var(--new); background: var(--new-card); border-radius: 4px; padding: 0 .4em; font-size: .8125rem; font-weight: 650; }
.note { border: 1px solid var(--edge); border-radius: 8px; padding: .75rem; margin: 0 0 1rem; }
.quiet { color: var(--quiet); font-size: .9375rem; }
.actions { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.25rem; }
button, .button {
  min-height: 44px; min-width: 8rem; padding: .5rem 1.25rem; border-radius: 8px; border: 1px solid var(--edge);
  background: transparent; color: var(--text); font: inherit; font-weight: 600; cursor: pointer; max-width: 100%;
  overflow-wrap: anywhere; text-align: center; text-decoration: none; display: inline-block;
}
button.main, .button.main { background: var(--main); border-color: var(--main); color: var(--on-main); }
button:hover { filter: brightness(1.08); }
:focus-visible { outline: 3px solid var(--main); outline-offset: 2px; }
.cards { list-style: none; padding: 0; margin: 1rem 0; display: grid; gap: 1rem; }
.cards > li { border: 1px solid var(--line); border-radius: 10px; padding: 1rem; }
.cards dl { margin: .5rem 0 .75rem; }
@media (min-width: 34rem) {
  body { padding: 2rem 1rem; }
  main { padding: 2rem; }
  dl > div { display: grid; grid-template-columns: 10.5rem 1fr; gap: 1rem; }
  dt { padding-top: .1rem; }
}
@media (max-width: 26rem) {
  body { padding: .5rem; line-height: 1.4; }
  header { padding: .25rem 0 .5rem; }
  main { padding: 1rem; }
  h1 { margin-bottom: .5rem; }
  dl { margin: .75rem 0; }
  dl > div { padding: .35rem 0; }
  .actions { margin-top: 1rem; }
  .actions button, .actions .button { flex: 1 1 8rem; }
}
@media (forced-colors: active) { button.main, .button.main { border-width: 2px; } }
`;
