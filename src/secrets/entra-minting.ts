import type { MintFailure } from "../core/machine-identity.ts";
import { type Asked, failed, failureOf, later } from "./entra-errors.ts";
import { causesOf, type EntraHttp, LIMIT_MS } from "./entra-http.ts";
import type { Vouch } from "./entra-settings.ts";

/** A token as both of Azure's packages give it, or why there is none. `expiresAt`: milliseconds since the epoch. */
export type Given = { ok: true; token: string; expiresAt: number } | MintFailure;

/** What MSAL and the credentials of `@azure/identity` have in common. */
type RawToken = { token: string; expiresAt: number } | null;

/**
 * Runs one request of Azure's packages. They cannot be cancelled: whoever has left is answered at once, and what they
 * began ends by itself within its own limit.
 */
export async function minted(
  work: () => Promise<RawToken>,
  options: { asked: Asked; http: EntraHttp; signal: AbortSignal },
): Promise<Given> {
  const { asked, http, signal } = options;
  const end = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  if (end.aborted) return cancelled(asked);
  const gone = Promise.withResolvers<Given>();
  const onEnd = () => gone.resolve(signal.aborted ? cancelled(asked) : failureOf({ kind: "slow" }, asked));
  end.addEventListener("abort", onEnd, { once: true });
  try {
    return await Promise.race([outcomeOf(work, asked, http), gone.promise]);
  } finally {
    end.removeEventListener("abort", onEnd);
  }
}

async function outcomeOf(work: () => Promise<RawToken>, asked: Asked, http: EntraHttp): Promise<Given> {
  try {
    const raw = await work();
    if (!raw || raw.token === "" || !Number.isFinite(raw.expiresAt))
      return failureOf({ kind: "nonsense" }, asked);
    return { ok: true, ...raw };
  } catch (error) {
    return failureFrom(error, asked, http);
  }
}

function failureFrom(error: unknown, asked: Asked, http: EntraHttp): MintFailure {
  const causes = causesOf(error);
  const voucher = causes.find((cause) => cause instanceof NoVoucher);
  if (voucher) return { ...voucher.failure, claims: null };
  const secret = causes.find((cause) => cause instanceof SecretError);
  if (secret) return failed(`${secret.message} (${asked.setting}).`);
  const file = causes.find((cause) => "syscall" in cause && FILES.includes(cause.syscall));
  if (file && "code" in file)
    return failed(`A file of ${asked.setting} cannot be read (${String(file.code)}).`);
  const fault = http.faultOf(error);
  if (fault) return failureOf(fault, asked);
  // A key that is none, variables that are missing: the packages' own words could quote what they were given.
  const [first] = causes;
  return failed(
    `${asked.setting} cannot be used (${first?.name ?? "unknown"}). Check it, and the files that it names.`,
  );
}

const FILES: unknown[] = ["open", "read"];

const cancelled = ({ setting }: Asked) =>
  later(`The request was cancelled before there was a token (${setting}).`);

/** Made by whoever first wants it, who also hears why it cannot be made. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => (made ??= make());
}

/** A secret that is kept elsewhere and cannot be read. `message` names the place, without a full stop. */
export class SecretError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "SecretError";
  }
}

/** The word of our own issuer, where a package asks for an assertion. Throws `NoVoucher`. */
export async function wordFor(vouch: Vouch, project: string): Promise<string> {
  const word = await vouch(project);
  if (!word.ok) throw new NoVoucher(word);
  return word.token;
}

/** There is no token of the identity that vouches for the one that is asked for. */
export class NoVoucher extends Error {
  readonly failure: MintFailure;
  constructor(failure: MintFailure) {
    super("no voucher");
    this.name = "NoVoucher";
    this.failure = failure;
  }
}
