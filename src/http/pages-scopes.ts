import { html } from "hono/html";
import { inert, type Markup } from "./pages-inert.ts";

/** Scopes as a list, each whole. `marked`: those that are new. */
export function scopeList(scopes: readonly string[], marked: ReadonlySet<string> = new Set()): Markup {
  return html`<ul>
    ${scopes.map(
      (scope) =>
        html`<li>
          <code>${inert(scope)}</code
          >${MEANINGS[scope] ?? ""}${marked.has(scope) ? html` <span class="new">new</span>` : ""}
        </li>`,
    )}
  </ul>`;
}

/** What is named alike everywhere and says nothing by its name (OpenID Connect Core, 11). */
const MEANINGS: Record<string, string> = { offline_access: " (stay connected when you are away)" };
