import type { Page } from "./page.ts";
import type { TestWorld } from "./world.ts";

/** What `:validate` answers, as far as tests look. */
export type Validation = {
  ok: boolean;
  cause: string;
  message: string;
  hints: string[];
  notes: string[];
  principal: { issuer: string; subject: string | null } | null;
  authorization: { grant: string | null; grantReason: string | null } | null;
};

/** Makes or replaces a connection of the project `default`. */
export async function connectIn(
  world: TestWorld,
  name: string,
  properties: Record<string, unknown>,
): Promise<void> {
  const made = await world.connect(name, properties);
  if (made.status !== 200) throw new Error(JSON.stringify(made.body));
}

/** `user`: a name, or the person's own token. */
export async function validateIn(world: TestWorld, name: string, user?: string): Promise<Validation> {
  const headers = user === undefined ? {} : { "x-ms-user-identity": user };
  const path = `/api/projects/default/connections/${name}:validate`;
  const answer = await world.rest("POST", path, undefined, headers);
  if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
  // Seam: the shape is the route's.
  return answer.body as unknown as Validation;
}

/** Which of these words an answer or the page lacks, and where. */
export function wordsMissing(page: Page, answer: unknown, ...words: string[]): string[] {
  const text = JSON.stringify(answer).replaceAll('\\"', '"');
  return words.flatMap((each) => [
    ...(text.includes(each) ? [] : [`the answer: ${each}`]),
    ...(page.says(each) ? [] : [`the page: ${each}`]),
  ]);
}
