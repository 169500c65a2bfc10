/** A secret that is kept elsewhere: `keyvault:https://{vault}/secrets/{name}[/{version}]`, `env:{NAME}` or `file:{path}`. */
export type SecretReference = { ref: string; prefix: string };

/** What a header or a client's secret is: the value itself, or where it is kept. `prefix` stands before what is found there. */
export type SecretValue = string | SecretReference;

/**
 * Secrets that are kept elsewhere. Values are remembered for minutes; when the place does not answer, what is remembered
 * serves on within a stated bound, and then it is a failure that says so.
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
