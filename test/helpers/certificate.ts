import { generateKeyPairSync, randomUUID, sign } from "node:crypto";

/** A key and a certificate that signs itself, for one DNS name, as PEM. Written out in DER: Node can read, not make them. */
export function selfSigned(name: string, kind: "ec" | "rsa" = "ec"): { key: string; cert: string } {
  const { privateKey, publicKey } =
    kind === "ec"
      ? generateKeyPairSync("ec", { namedCurve: "P-256" })
      : generateKeyPairSync("rsa", { modulusLength: 2048 });
  const algorithm =
    kind === "ec"
      ? sequence(oid("2a8648ce3d040302")) // ecdsa-with-SHA256
      : sequence(oid("2a864886f70d01010b"), tagged(0x05, Buffer.alloc(0))); // sha256WithRSAEncryption
  // Trust is looked up by subject: two servers of one name must not be called the same.
  const named = (type: string, text: string) =>
    tagged(0x31, sequence(oid(type), tagged(0x0c, Buffer.from(text))));
  const subject = sequence(named("55040a", randomUUID()), named("550403", name));
  const alternative = sequence(oid("551d11"), tagged(0x04, sequence(tagged(0x82, Buffer.from(name)))));
  const authority = sequence(oid("551d13"), tagged(0x04, sequence(tagged(0x01, Buffer.from([0xff])))));
  const body = sequence(
    tagged(0xa0, tagged(0x02, Buffer.from([2]))), // version 3
    tagged(0x02, Buffer.from([1])), // serial number
    algorithm,
    subject, // the issuer
    sequence(utcTime(-1), utcTime(1)),
    subject,
    publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, sequence(alternative, authority)),
  );
  const signature = sign("sha256", body, privateKey);
  const certificate = sequence(body, algorithm, tagged(0x03, Buffer.concat([Buffer.from([0]), signature])));
  // No empty line at the end where the length fits: OpenSSL takes none.
  const base64 = certificate.toString("base64").replace(/.{64}(?=.)/g, "$&\n");
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
  };
}

function tagged(tag: number, content: Buffer): Buffer {
  const size = content.length;
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

const sequence = (...parts: Buffer[]) => tagged(0x30, Buffer.concat(parts));
const oid = (hex: string) => tagged(0x06, Buffer.from(hex, "hex"));

function utcTime(days: number): Buffer {
  const digits = new Date(Date.now() + days * 86_400_000).toISOString().replace(/\D/g, "");
  return tagged(0x17, Buffer.from(`${digits.slice(2, 14)}Z`));
}
