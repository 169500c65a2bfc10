import { readFile } from "node:fs/promises";
import { SecretError } from "./entra-minting.ts";
import type { ReadSecret } from "./entra-settings.ts";
import { codeOf } from "./files.node.ts";

/** Secrets that the operator keeps in the environment or in files, read anew each time. */
export function createReadSecret(env: Record<string, string | undefined>): ReadSecret {
  return async (ref) => {
    const [, scheme, place = ""] = /^(env|file):(.+)$/s.exec(ref) ?? [];
    if (scheme === undefined) throw new SecretError("a secret is at env:NAME or file:/path");
    const text = scheme === "env" ? env[place] : await readText(place);
    const secret = text?.trim() ?? "";
    if (secret === "") throw new SecretError(`${ref} is ${text === undefined ? "not set" : "empty"}`);
    return secret;
  };
}

async function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch((error: unknown) => {
    throw new SecretError(`file:${path} cannot be read (${codeOf(error)})`, { cause: error });
  });
}
