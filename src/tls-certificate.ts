import { isIP, isIPv4 } from "node:net";
import { Integer, OctetString, Utf8String } from "asn1js";
import {
  AttributeTypeAndValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  Extension,
  ExtKeyUsage,
  GeneralName,
  GeneralNames,
  RelativeDistinguishedNames,
} from "pkijs";

/** PEM texts. `key` belongs to `cert`; what signed them both is gone. */
export type MadeCertificates = { ca: string; cert: string; key: string };

/**
 * A certificate authority of one certificate: a CA, and a server's certificate for these names that it signed (RFC 5280).
 * The CA's private key cannot be exported and is forgotten here, so that whoever trusts the CA trusts this one server, from
 * `from` (milliseconds since the epoch) to `until`.
 */
export async function makeCertificates(about: {
  /** DNS names and IP addresses, without brackets. */
  names: readonly string[];
  from: number;
  until: number;
}): Promise<MadeCertificates> {
  const caKeys = await crypto.subtle.generateKey(P256, false, ["sign", "verify"]);
  const keys = await crypto.subtle.generateKey(P256, true, ["sign", "verify"]);
  // Each CA has a name of its own: two of one name in a trust store confuse those who look an issuer up by it.
  const issuer = named(`Consentry development CA ${hex(randomBytes(4))}`);
  const caKeyId = randomBytes(20);
  const shared = { issuer, signingKey: caKeys.privateKey, from: about.from, until: about.until };
  const ca = await signed({
    ...shared,
    subject: issuer,
    publicKey: caKeys.publicKey,
    extensions: [
      extension(OID.basicConstraints, new BasicConstraints({ cA: true, pathLenConstraint: 0 }), "critical"),
      extension(OID.subjectKeyIdentifier, octets(caKeyId)),
    ],
  });
  const cert = await signed({
    ...shared,
    subject: named("Consentry development"),
    publicKey: keys.publicKey,
    extensions: [
      extension(OID.basicConstraints, new BasicConstraints({ cA: false }), "critical"),
      extension(OID.extendedKeyUsage, new ExtKeyUsage({ keyPurposes: [OID.serverAuth] })),
      extension(OID.authorityKeyIdentifier, new AuthorityKeyIdentifier({ keyIdentifier: octets(caKeyId) })),
      extension(OID.subjectAlternativeName, new GeneralNames({ names: about.names.map(alternative) })),
    ],
  });
  const key = pem("PRIVATE KEY", await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  return { ca, cert, key };
}

async function signed(about: {
  subject: RelativeDistinguishedNames;
  issuer: RelativeDistinguishedNames;
  publicKey: CryptoKey;
  signingKey: CryptoKey;
  from: number;
  until: number;
  extensions: Extension[];
}): Promise<string> {
  const certificate = new Certificate({ version: X509_V3 });
  certificate.serialNumber = new Integer({ valueHex: serialNumber().buffer });
  certificate.subject = about.subject;
  certificate.issuer = about.issuer;
  certificate.notBefore.value = new Date(about.from);
  certificate.notAfter.value = new Date(about.until);
  await certificate.subjectPublicKeyInfo.importKey(about.publicKey);
  certificate.extensions = about.extensions;
  await certificate.sign(about.signingKey, "SHA-256");
  return pem("CERTIFICATE", certificate.toSchema(true).toBER());
}

/** RFC 5280, 4.1.2.2: positive, which the first bit decides, and never zero at the front. */
function serialNumber(): Uint8Array<ArrayBuffer> {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes;
}

function named(commonName: string): RelativeDistinguishedNames {
  const value = new Utf8String({ value: commonName });
  return new RelativeDistinguishedNames({
    typesAndValues: [new AttributeTypeAndValue({ type: OID.commonName, value })],
  });
}

function alternative(name: string): GeneralName {
  if (isIP(name) === 0) return new GeneralName({ type: DNS_NAME, value: name });
  return new GeneralName({ type: IP_ADDRESS, value: octets(bytesOfIp(name)) });
}

function bytesOfIp(address: string): Uint8Array<ArrayBuffer> {
  if (isIPv4(address)) return Uint8Array.from(address.split("."), Number);
  const [head = [], tail = []] = address.split("::").map((half) => half.split(":").filter(Boolean));
  const groups = [...head, ...Array<string>(8 - head.length - tail.length).fill("0"), ...tail];
  return Uint8Array.from(groups.flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff]));
}

type Encodable = { toSchema: () => { toBER: () => ArrayBuffer } };

function extension(id: string, value: Encodable | OctetString, critical?: "critical"): Extension {
  const encoded = value instanceof OctetString ? value.toBER() : value.toSchema().toBER();
  return new Extension({ extnID: id, critical: critical !== undefined, extnValue: encoded });
}

function octets(bytes: Uint8Array<ArrayBuffer>): OctetString {
  return new OctetString({ valueHex: bytes.buffer });
}

function pem(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

function randomBytes(count: number): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(count));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

const P256 = { name: "ECDSA", namedCurve: "P-256" };
const X509_V3 = 2;
const DNS_NAME = 2;
const IP_ADDRESS = 7;
const OID = {
  commonName: "2.5.4.3",
  subjectKeyIdentifier: "2.5.29.14",
  subjectAlternativeName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
};
