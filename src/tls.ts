import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";
import type { Config } from "./config.ts";
import type { Log } from "./core/ports.ts";
import { codeOf } from "./secrets/files.node.ts";
import { covers, ensureDevelopmentTls, tlsFault } from "./tls-development.ts";

/** PEM, for `node:https`. */
export type TlsFiles = { cert: string; key: string };

/**
 * What the listener serves https with; null: it serves http. `folder`: where the development certificate is kept.
 *
 * Throws `ConfigError`.
 */
export async function loadTls(
  { tls, host, publicUrl }: Config,
  { folder, now, log }: { folder: string; now: number; log: Log },
): Promise<TlsFiles | null> {
  const [asked, listening] = namesOf(host, publicUrl);
  switch (tls.kind) {
    case "off":
      return null;
    case "files": {
      const { files, certificate } = await readFiles(tls, now);
      // No fault: behind a proxy that speaks https itself the public name is the proxy's.
      if (!covers(certificate, asked)) log("warn", "tls_name_missing", { file: tls.cert, name: asked });
      return files;
    }
    case "development": {
      const all = [...new Set([asked, listening, "localhost", "127.0.0.1", "::1"])];
      const { made, caPath, ...files } = await ensureDevelopmentTls(folder, { names: all, now });
      if (made !== null)
        log(made === "first_start" ? "info" : "warn", "dev_ca_made", {
          because: made,
          ca: caPath,
          names: all,
        });
      log("info", "dev_ca", { ca: caPath, trust: `NODE_EXTRA_CA_CERTS=${caPath}` });
      return files;
    }
  }
}

/** The public name and the one we listen under, as certificates name them: lower case, no brackets. */
function namesOf(host: string, publicUrl: string | null): [asked: string, listening: string] {
  const listening = nameOf(`https://${host.includes(":") ? `[${host}]` : host}`);
  return [publicUrl === null ? listening : nameOf(publicUrl), listening];
}

function nameOf(url: string): string {
  return new URL(url).hostname.replace(/^\[(.*)\]$/, "$1");
}

async function readFiles(
  paths: { cert: string; key: string },
  now: number,
): Promise<{ files: TlsFiles; certificate: X509Certificate }> {
  const cert = await textOf(paths.cert);
  const key = await textOf(paths.key);
  const certificate = readCertificate(paths.cert, cert);
  if (!certificate.checkPrivateKey(readKey(paths.key, key)))
    throw tlsFault(`${paths.key} is not the key of the certificate in ${paths.cert}`);
  if (now > Date.parse(certificate.validTo))
    throw tlsFault(`the certificate in ${paths.cert} ended on ${certificate.validTo}`);
  if (now < Date.parse(certificate.validFrom))
    throw tlsFault(`the certificate in ${paths.cert} begins on ${certificate.validFrom}`);
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw tlsFault(`${paths.cert} cannot be served (${codeOf(error)})`);
  }
  return { files: { cert, key }, certificate };
}

async function textOf(path: string): Promise<string> {
  return readFile(path, "utf8").catch((error: unknown) => {
    throw tlsFault(`${path} cannot be read (${codeOf(error)})`);
  });
}

/** Of a chain the first one: the server's own. */
function readCertificate(path: string, text: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch {
    throw tlsFault(`${path} holds no certificate in PEM`);
  }
}

function readKey(path: string, text: string): KeyObject {
  if (text.includes("ENCRYPTED")) throw tlsFault(`${path} has a passphrase; give a key without`);
  try {
    return createPrivateKey(text);
  } catch {
    throw tlsFault(`${path} holds no private key in PEM`);
  }
}
