import type { HeaderValues } from "./connection.ts";
import { BrokerError } from "./errors.ts";
import { headerValueFault } from "./header-rules.ts";
import { isJsonObject } from "./json.ts";
import {
  type HeaderSecrets,
  readSecretValue,
  type SecretReference,
  type SecretReferences,
} from "./secret-references.ts";

/** A connection's box, opened. Apart, so that a call without references has nothing to look for. */
export type OpenedHeaders =
  | { kind: "plain"; headers: HeaderValues }
  | { kind: "elsewhere"; headers: HeaderSecrets };

/** The plain text of a connection's box: `{"headers":{name:value}}`, a value being the text or where it is kept. */
export function writeHeaders(headers: HeaderSecrets): string {
  return JSON.stringify({ headers });
}

export function readHeaders(plain: string): OpenedHeaders {
  const body: unknown = JSON.parse(plain);
  if (!isJsonObject(body) || !isJsonObject(body["headers"]))
    throw new Error("a connection's box holds no headers");
  const values: HeaderValues = {};
  const headers: HeaderSecrets = {};
  for (const [name, given] of Object.entries(body["headers"])) {
    const value = readSecretValue(given);
    if (value === null) continue;
    headers[name] = value;
    if (typeof value === "string") values[name] = value;
  }
  const isPlain = Object.keys(values).length === Object.keys(headers).length;
  return isPlain ? { kind: "plain", headers: values } : { kind: "elsewhere", headers };
}

/** What is sent. Throws `unavailable`, which names the reference that cannot be had, or holds what no header may. */
export async function sentHeaders(
  references: SecretReferences,
  project: string,
  opened: OpenedHeaders,
): Promise<HeaderValues> {
  if (opened.kind === "plain") return opened.headers;
  const found = Object.entries(opened.headers).map(async ([name, value]) => [
    name,
    typeof value === "string" ? value : await resolved(references, project, { name, ...value }),
  ]);
  return Object.fromEntries(await Promise.all(found));
}

async function resolved(
  references: SecretReferences,
  project: string,
  { name, ref, prefix }: SecretReference & { name: string },
): Promise<string> {
  const value = prefix + (await references.resolve(project, ref));
  const fault = headerValueFault(value);
  if (fault === null) return value;
  const what = `the secret ${ref} is no value for the header ${name}: it ${fault}`;
  throw new BrokerError("unavailable", { what, reference: ref, passing: true });
}
