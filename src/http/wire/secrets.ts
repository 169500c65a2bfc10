import * as z from "zod";
import { invalid } from "../../core/errors.ts";
import { isJsonObject } from "../../core/json.ts";
import type { SecretValue } from "../../core/secret-references.ts";
import { only, read, readWith, recordOf, schemaOf, type Shape } from "./shape.ts";

const reference = only({
  ref: z.string(),
  /** Stands before what is found there. */
  prefix: z.string().optional(),
});

/** A secret, or where it is kept: `{"ref":"keyvault:…","prefix":"Bearer "}`, or as Azure's app settings write it. */
export const secretValue: Shape<SecretValue> = readWith(
  (given): SecretValue => {
    if (typeof given === "string") return readText(given);
    if (given === undefined) throw invalid({ param: "", message: "is required" });
    if (!isJsonObject(given))
      throw invalid({ param: "", message: 'must be a string, or {"ref":"…"} where it is kept elsewhere' });
    const { ref, prefix = "" } = read(reference, given);
    return { ref, prefix };
  },
  { anyOf: [{ type: "string" }, schemaOf(reference)] },
);

/** Header names and values. */
export const secretValues = recordOf(secretValue, { pairs: 1_000 });

/**
 * `@Microsoft.KeyVault(SecretUri=…)` is a reference. So is everything else that Azure reads there, for the rules to refuse: sent as
 * it stands it would be no secret at all.
 */
function readText(text: string): SecretValue {
  const [, prefix = "", inner] = /^([^@]{0,64})@Microsoft\.KeyVault\((.*)\)\s*$/is.exec(text) ?? [];
  if (inner === undefined) return text;
  const url = /^SecretUri=(.*)$/is.exec(inner)?.[1];
  return { ref: url === undefined ? text : `keyvault:${url}`, prefix };
}
