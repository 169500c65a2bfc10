import { type BrokerError, type Fault, invalid, isRefusal } from "../../core/errors.ts";

/** Nobody mends more in one go, and a body of 4 MiB has room for millions, which neither a stack nor an answer has. */
export const MAX_FAULTS = 20;
const MAX_PARAM_CHARS = 200;

/** The refusal for these faults, of which the first twenty are told. */
export function refusal(faults: readonly Fault[]): BrokerError<"invalid"> {
  const told = faults.slice(0, MAX_FAULTS);
  return invalid(...told.map(({ param, message }) => ({ param: param.slice(0, MAX_PARAM_CHARS), message })));
}

/** Runs a reader and keeps its faults while there is room, so that the reader beside it is heard, too. */
export function collect<T>(faults: Fault[], reader: () => T): T | undefined {
  try {
    return reader();
  } catch (error) {
    if (!isRefusal(error, "invalid")) throw error;
    faults.push(...error.details.faults.slice(0, Math.max(0, MAX_FAULTS - faults.length)));
    return undefined;
  }
}

/** `a.b` below `a`; an index stands without a dot. */
export function under(param: string, step: string): string {
  if (param === "" || step === "") return param + step;
  return step.startsWith("[") ? param + step : `${param}.${step}`;
}
