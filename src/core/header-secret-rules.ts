import type { Fault } from "./errors.ts";
import { headerFaults } from "./header-rules.ts";
import { type CheckReference, type HeaderSecrets, mapValues, refsOf } from "./secret-references.ts";

/**
 * What is wrong with the headers of a connection whose values may be kept elsewhere: as far as they can be seen by the rules of
 * headers, and each reference by its form and by what is lent. Every fault under `param`.
 */
export function headerSecretFaults(
  headers: HeaderSecrets,
  { param, checkReference }: { param: string; checkReference: CheckReference },
): Fault[] {
  // One letter stands for what is not here to be seen.
  const seen = mapValues(headers, (value) => (typeof value === "string" ? value : `${value.prefix}x`));
  const refused = Object.entries(refsOf(headers)).flatMap(([name, ref]) => {
    const message = checkReference(ref);
    return message === null ? [] : [{ param: `${param}.${name}.ref`, message }];
  });
  return [...headerFaults(seen, param), ...refused];
}
