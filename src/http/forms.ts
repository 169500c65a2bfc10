import { readText } from "./body.ts";

/** What a form of our pages sent, or the status that says why it is none. */
export type Form = { ok: true; fields: URLSearchParams } | { ok: false; status: 400 | 403 };

/**
 * Reads a form that one of our own pages sent; no other site's page has business here (A18). Pages without a referrer send
 * `Origin: null` with their forms: then the browser's own word counts that the page was of this origin.
 *
 * Throws `too_large` past 16 KiB, `invalid` for what is not UTF-8.
 */
export async function readForm(request: Request, publicUrl: string): Promise<Form> {
  if (!isFromHere(request.headers, publicUrl)) return { ok: false, status: 403 };
  const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/x-www-form-urlencoded") return { ok: false, status: 400 };
  const text = await readText(request, FORM_LIMIT);
  return { ok: true, fields: new URLSearchParams(text) };
}

const FORM_LIMIT = { limit: 16, unit: "KiB" } as const;

function isFromHere(headers: Headers, publicUrl: string): boolean {
  const origin = headers.get("origin");
  if (origin !== null && origin !== "null") return origin === new URL(publicUrl).origin;
  return headers.get("sec-fetch-site") === "same-origin";
}
