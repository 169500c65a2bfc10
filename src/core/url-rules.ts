import type { Fault } from "./errors.ts";

/** Why egress would refuse a URL, as a sentence; null when it would not. */
export type CheckTarget = (url: string) => string | null;

export const MAX_URL_CHARS = 2_048;

/**
 * The faults of a URL that an admin typed and that we shall call, or send a person to: absolute, https (http where egress
 * allows it), no user, no fragment, and no place that egress refuses (threats A9, A10).
 */
export function urlFaults(
  given: string,
  { checkTarget, param }: { checkTarget: CheckTarget; param: string },
): Fault[] {
  const faults = formFaults(given, param);
  const refusal = faults.length === 0 ? checkTarget(given) : null;
  return refusal === null ? faults : [{ param, message: refusal }];
}

/**
 * The faults of a URL to which browsers are sent at the end, by exact comparison with what was registered (A13): https, or
 * http on a loopback host where `local` says that everything is. `ours`: the parameters that we add.
 */
export function returnUrlFaults(
  given: string,
  { local, param, ours }: { local: boolean; param: string; ours: readonly string[] },
): Fault[] {
  const faults = formFaults(given, param);
  if (faults.length > 0) return faults;
  const { protocol, hostname, searchParams } = new URL(given);
  const taken = ours.filter((name) => searchParams.has(name));
  if (taken.length > 0)
    return [{ param, message: `must not have the parameter ${taken.join(", ")}: it is ours` }];
  if (protocol === "https:" || (local && LOOPBACK.has(hostname))) return [];
  const message = local ? "must be https, or http on a loopback host" : "must be https";
  return [{ param, message }];
}

/**
 * A URL without a fragment as it is written, with parameters at its end. Taken apart and put together again it would be
 * spelled another way than it was registered (A13).
 */
export function withParams(url: string, params: Record<string, string>): string {
  // A header holds ASCII alone.
  const base = /^[\x21-\x7e]+$/.test(url) ? url : new URL(url).href;
  const mark = !base.includes("?") ? "?" : /[?&]$/.test(base) ? "" : "&";
  return `${base}${mark}${new URLSearchParams(params).toString()}`;
}

/** Whether a text is a host as it stands in a URL, with its port where that is not the usual one. */
export function isHost(host: string): boolean {
  if (host === "" || !URL.canParse(`https://${host}/`)) return false;
  const url = new URL(`https://${host}/`);
  return url.host === host || url.hostname === host;
}

function formFaults(given: string, param: string): Fault[] {
  if (given.length > MAX_URL_CHARS) {
    return [{ param, message: `must have at most ${MAX_URL_CHARS} characters` }];
  }
  if (!/^https?:\/\/[^\s\p{Cc}\\]+$/iu.test(given) || !URL.canParse(given)) {
    return [{ param, message: "must be an absolute https or http URL" }];
  }
  const url = new URL(given);
  const faults: Fault[] = [];
  if (url.username !== "" || url.password !== "") {
    faults.push({ param, message: "must not hold a user or password: use credentials" });
  }
  if (given.includes("#")) faults.push({ param, message: "must not have a fragment" });
  return faults;
}

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);
