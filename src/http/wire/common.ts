import * as z from "zod";
import { recordOf } from "./shape.ts";

/** A query's whole number; queries are text. */
export function wholeNumber(min: number, max: number) {
  return z.coerce.number().int().min(min).max(max).meta({ type: "integer", minimum: min, maximum: max });
}

/** A query's yes or no. Anything but `true` is no, as Foundry reads it. */
export const flag = z.string().transform((text) => text.toLowerCase() === "true");

/** A moment in RFC 3339 with an offset, as milliseconds since the epoch. */
export const moment = z.iso
  .datetime({ offset: true, error: 'must be a time like "2027-01-31T12:00:00Z"' })
  .transform((text) => Date.parse(text));

export function writeMoment(ms: number): string {
  return new Date(ms).toISOString();
}

/** How all lists of our own are paged: newest or by name, `after` the last id seen. `nextLink` does it for the caller. */
export const pageQuery = z.object({
  limit: wholeNumber(1, 100).default(50),
  after: z.string().min(1).max(300).optional(),
});

/**
 * A query that takes no other names: a misspelt filter would show everything, and be believed. `api-version` is sent by
 * Azure's clients everywhere and read nowhere.
 */
export function strictQuery<S extends z.ZodRawShape>(shape: S) {
  const message = `is not known here; known are ${Object.keys(shape).join(", ")}`;
  return z.strictObject(
    { ...shape, "api-version": z.string().optional() },
    { error: ({ code }) => (code === "unrecognized_keys" ? message : undefined) },
  );
}

export type PageQuery = z.infer<typeof pageQuery>;

/** `{value, nextLink?}` around what is listed. */
export function listOf<T>(shape: z.ZodType<T>) {
  return z.object({ value: z.array(shape), nextLink: z.string().optional() });
}

/** A name or an id that a caller writes, of ours or of anybody. */
export const name = z.string().min(1).max(256);

/** What a request calls a server. */
export const label = z.string().min(1).max(128);

export const strings = recordOf(z.string(), { pairs: 1_000 });

/** OpenAI's metadata of a response or an agent. */
export const metadata = recordOf(z.string().max(512), { pairs: 16, nameChars: 64 });
