import { isJsonObject } from "./json.ts";

/** A secret that is kept elsewhere: `keyvault:https://{vault}/secrets/{name}[/{version}]`, `env:{NAME}` or `file:{path}`. */
export type SecretReference = { ref: string; prefix: string };

/** What a header or a client's secret is: the value itself, or where it is kept. `prefix` stands before what is found there. */
export type SecretValue = string | SecretReference;

/** Credential headers as an admin gives them. */
export type HeaderSecrets = Record<string, SecretValue>;

/**
 * Secrets that are kept elsewhere. Values are remembered for minutes; when the place does not answer, what is remembered
 * serves on within a stated bound, and then it is a failure that says so. `project` may be `CONNECTORS`.
 */
export type SecretReferences = {
  /**
   * Why the project may not use this reference, or why it is none: an admin of a project may not read what its operator did
   * not lend to it. Null: it may.
   */
  fault: (project: string, ref: string) => string | null;
  /** The secret. Throws `unavailable`, which names the place and never a value. */
  resolve: (project: string, ref: string) => Promise<string>;
};

/** The project of the operator's connectors, which belong to none. */
export const CONNECTORS = "";

/** The fault of a reference, for whom it is written. Null: it may be used. */
export type CheckReference = (ref: string) => string | null;

/** What a box holds of a secret. Null: nothing. */
export function readSecretValue(value: unknown): SecretValue | null {
  if (typeof value === "string") return value;
  if (!isJsonObject(value) || typeof value["ref"] !== "string") return null;
  const { ref, prefix } = value;
  return { ref, prefix: typeof prefix === "string" ? prefix : "" };
}

/** The references alone, by name. They are no secrets. */
export function refsOf(values: Record<string, SecretValue>): Record<string, string> {
  const pairs = Object.entries(values).flatMap(([name, value]) =>
    typeof value === "string" ? [] : [[name, value.ref] as const],
  );
  return Object.fromEntries(pairs);
}

export function mapValues<T, R>(values: Record<string, T>, map: (value: T) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, map(value)]));
}
