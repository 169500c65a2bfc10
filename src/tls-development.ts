import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { readdir, readFile, rm } from "node:fs/promises";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { ConfigError } from "./config.ts";
import { codeOf, createOnce, isReadableByOthers, putFile } from "./secrets/files.node.ts";

/** Why a new certificate was made. Whoever trusted the CA of the one before has to trust another one now. */
export type MadeBecause = "first_start" | "near_its_end" | "names_changed" | "damaged";

export type DevelopmentTls = {
  cert: string;
  key: string;
  /** Where the certificate of the CA is. */
  caPath: string;
  /** Null: it is the one of before. */
  made: MadeBecause | null;
};

/**
 * The certificate of a broker on a laptop, made once and kept in `folder`: `dev-tls.pem` (mode 0600) holds the server's
 * certificate, its CA's and the server's private key; `dev-ca.pem` is the CA's certificate once more, for clients to trust.
 * The CA's private key is never written.
 *
 * Of any number of processes that start at once all serve the same certificate. Throws `ConfigError`.
 */
export async function ensureDevelopmentTls(
  folder: string,
  wanted: { names: readonly string[]; now: number },
): Promise<DevelopmentTls> {
  const path = join(folder, "dev-tls.pem");
  try {
    return await ensured(folder, path, wanted);
  } catch (error) {
    if (codeOf(error) === "unknown") throw error;
    throw tlsFault(`${path} cannot be read or made (${codeOf(error)})`);
  }
}

async function ensured(
  folder: string,
  path: string,
  wanted: { names: readonly string[]; now: number },
): Promise<DevelopmentTls> {
  let made: MadeBecause | null = null;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const text = await textOf(path);
    const bundle = text === null ? null : read(text);
    const fault = text === null ? "first_start" : faultOf(bundle, wanted);
    if (bundle && fault === null) return { ...(await served(folder, path, bundle)), made };
    if (await renew(folder, path, text, wanted)) made = fault;
  }
  throw tlsFault(`${path} changes all the time: another program writes there`);
}

/** Others may be renewing at the same time, which takes a turn more. */
const MAX_ATTEMPTS = 5;

async function served(folder: string, path: string, { ca, cert, key }: Bundle) {
  if (await isReadableByOthers(path))
    throw tlsFault(`${path} can be read by others than its owner (chmod 600 mends that)`);
  const caPath = resolve(folder, "dev-ca.pem");
  if ((await textOf(caPath)) !== ca) await putFile(caPath, ca, 0o644);
  return { cert, key, caPath };
}

/**
 * Makes a certificate in the place of `stale`, or the first one. True: by us. What follows a certificate is named after it
 * and made once, so that all who find the same one stale put the same one in its place, however late they are.
 */
async function renew(
  folder: string,
  path: string,
  stale: string | null,
  { names, now }: { names: readonly string[]; now: number },
): Promise<boolean> {
  // Loaded when a certificate has to be made, which is rare.
  const { makeCertificates } = await import("./tls-certificate.ts");
  const { ca, cert, key } = await makeCertificates({
    names,
    from: now - CLOCK_SKEW_MS,
    until: now + LIFETIME_MS,
  });
  const text = cert + ca + key;
  if (stale === null) return createOnce(path, text);
  const successor = `${SUCCESSOR}${createHash("sha256").update(stale).digest("hex").slice(0, 16)}.pem`;
  const isOurs = await createOnce(join(folder, successor), text);
  await putFile(path, await readFile(join(folder, successor), "utf8"), 0o600);
  const older = (await readdir(folder)).filter((name) => name.startsWith(SUCCESSOR) && name !== successor);
  await Promise.all(older.map((name) => rm(join(folder, name), { force: true })));
  return isOurs;
}

const SUCCESSOR = "dev-tls.after-";
const DAY_MS = 24 * 60 * 60 * 1000;
const CLOCK_SKEW_MS = 60 * 60 * 1000;
/** Apple's systems take no more than 825 days, whoever signed. */
const LIFETIME_MS = 820 * DAY_MS;
const RENEW_BEFORE_MS = 30 * DAY_MS;

type Bundle = { ca: string; cert: string; key: string; certificate: X509Certificate };

/** Null: it is not what we write. */
function read(text: string): Bundle | null {
  const [cert, ca, key, ...more] = text.split(/(?<=-----END [A-Z ]+-----\n)/);
  if (cert === undefined || ca === undefined || key === undefined || more.length > 0) return null;
  try {
    const certificate = new X509Certificate(cert);
    const isWhole =
      certificate.verify(new X509Certificate(ca).publicKey) &&
      certificate.checkPrivateKey(createPrivateKey(key));
    return isWhole ? { ca, cert, key, certificate } : null;
  } catch {
    return null;
  }
}

function faultOf(
  bundle: Bundle | null,
  { names, now }: { names: readonly string[]; now: number },
): MadeBecause | null {
  if (!bundle) return "damaged";
  const { certificate } = bundle;
  const from = Date.parse(certificate.validFrom);
  const until = Date.parse(certificate.validTo);
  if (now < from || now > until - RENEW_BEFORE_MS) return "near_its_end";
  return names.every((name) => covers(certificate, name)) ? null : "names_changed";
}

/** `message` names files and never what they hold. */
export function tlsFault(message: string): ConfigError {
  return new ConfigError([{ name: "CONSENTRY_TLS", message }]);
}

/** Whether a server with this certificate may answer under a DNS name or an IP address. */
export function covers(certificate: X509Certificate, name: string): boolean {
  return (isIP(name) === 0 ? certificate.checkHost(name) : certificate.checkIP(name)) !== undefined;
}

async function textOf(path: string): Promise<string | null> {
  return readFile(path, "utf8").catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  });
}
