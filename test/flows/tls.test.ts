// CONSENTRY_TLS, by the command that users run and by clients that trust one CA, or none.
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Agent, fetch } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeCertificates, type MadeCertificates } from "../../src/tls-certificate.ts";
import { type BrokerProcess, startBroker } from "../helpers/process.ts";
import { ADMIN_KEY } from "../helpers/world.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
let folder: string;
let brokers: BrokerProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-tls-"));
});
afterEach(async () => {
  await Promise.all(brokers.map((broker) => broker.kill9()));
  brokers = [];
  await rm(folder, { recursive: true, force: true });
});

const start = async (env: Record<string, string>, database = "consentry.db") => {
  const broker = await startBroker({
    CONSENTRY_DATABASE_URL: `file:${join(folder, database)}`,
    CONSENTRY_ADMIN_KEY: ADMIN_KEY,
    ...env,
  });
  brokers.push(broker);
  return broker;
};
const development = (env: Record<string, string> = {}, database?: string) =>
  start({ CONSENTRY_TLS: "development", ...env }, database);
const devCa = () => readFile(join(folder, "dev-ca.pem"), "utf8");

/** One request of a client that trusts this CA (null: those of the system). The status, or why there is none. */
async function ask(url: string, ca: string | null, init: { method?: string; body?: string } = {}) {
  const dispatcher = new Agent({ connect: ca === null ? {} : { ca } });
  const headers = { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" };
  try {
    const response = await fetch(url, { dispatcher, headers, ...init });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    const cause = error instanceof Error ? error.cause : null;
    return { code: cause instanceof Error && "code" in cause ? cause.code : String(error) };
  } finally {
    await dispatcher.close();
  }
}

describe("development", () => {
  test("who trusts dev-ca.pem connects under every name of loopback, who does not cannot", async () => {
    const { url } = await development();
    const { port, protocol } = new URL(url);
    expect(protocol).toBe("https:");
    for (const name of ["127.0.0.1", "localhost"]) {
      const at = `https://${name}:${port}/api/projects`;
      expect(await ask(at, await devCa())).toMatchObject({ status: 200 });
      expect(await ask(at, null)).toEqual({ code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" });
    }
    expect(await ask(url.replace("https:", "http:"), null)).not.toHaveProperty("status");
  });

  test("the log says where the CA is and how a client trusts it, and that does it", async () => {
    const broker = await development();
    const found = /"event":"dev_ca","ca":"([^"]+)","trust":"(\w+)=([^"]+)"/.exec(broker.output());
    const [ca = "", name = "", value = ""] = found?.slice(1) ?? [];
    expect([ca, name, value]).toEqual([join(folder, "dev-ca.pem"), "NODE_EXTRA_CA_CERTS", ca]);
    const client = `fetch(${JSON.stringify(`${broker.url}/healthz`)}).then((r) => console.log(r.status))`;
    const env = { PATH: process.env["PATH"] ?? "", [name]: value };
    const { stdout } = await promisify(execFile)(process.execPath, ["-e", client], { env });
    expect(stdout.trim()).toBe("200");
    expect(broker.output()).not.toContain("PRIVATE KEY");
  });

  test("a restart keeps the CA", async () => {
    const first = await development();
    const before = await devCa();
    expect(await first.stop()).toBe(0);
    const { url } = await development();
    expect(await devCa()).toBe(before);
    expect(await ask(url, before)).toHaveProperty("status");
  });

  test("processes that start at once are all behind one CA", async () => {
    const three = await Promise.all(["a.db", "b.db", "c.db"].map((name) => development({}, name)));
    const ca = await devCa();
    for (const { url } of three) expect(await ask(`${url}/healthz`, ca)).toMatchObject({ status: 200 });
    expect((await readdir(folder)).filter((name) => name.startsWith("dev-tls"))).toEqual(["dev-tls.pem"]);
  });

  test("a public URL on loopback is one of its names, and its links are https", async () => {
    const { url } = await development({ CONSENTRY_PUBLIC_URL: "https://broker.localhost:8443" });
    expect(url).toBe("https://broker.localhost:8443");
    const cert = await readFile(join(folder, "dev-tls.pem"));
    expect(new X509Certificate(cert).checkHost("broker.localhost")).toBe("broker.localhost");
  });

  test("the broker's own https listener is out of reach for its connections", async () => {
    const { url } = await development();
    const { port } = new URL(url);
    const put = async (target: string) =>
      ask(`${url}/api/projects/default/connections/itself`, await devCa(), {
        method: "PUT",
        body: JSON.stringify({ properties: { category: "RemoteTool", authType: "None", target } }),
      });
    for (const host of ["127.0.0.1", "localhost", "127.0.0.2"]) {
      const refused = { status: 400, text: expect.stringContaining("target") };
      expect(await put(`https://${host}:${port}/mcp`)).toMatchObject(refused);
    }
    expect(await put("https://127.0.0.1:9/mcp")).toMatchObject({ status: 200 });
  });
});

describe("files of the operator's", () => {
  const make = (about: { names?: string[]; from?: number; until?: number } = {}) =>
    makeCertificates({
      names: about.names ?? ["127.0.0.1"],
      from: Date.now() + (about.from ?? -1) * DAY_MS,
      until: Date.now() + (about.until ?? 1) * DAY_MS,
    });
  const write = async (made: Pick<MadeCertificates, "cert" | "key">) => {
    const cert = join(folder, "cert.pem");
    const key = join(folder, "key.pem");
    await Promise.all([writeFile(cert, made.cert), writeFile(key, made.key)]);
    return { CONSENTRY_TLS: `${cert},${key}` };
  };
  const refusal = (env: Record<string, string>) =>
    start(env).then(
      () => "it started",
      (error: Error) => error.message,
    );

  test("are served, chain and all", async () => {
    const made = await make();
    const broker = await start(await write({ ...made, cert: made.cert + made.ca }));
    expect(broker.url).toMatch(/^https:/);
    expect(await ask(`${broker.url}/healthz`, made.ca)).toMatchObject({ status: 200 });
    expect(broker.output()).not.toContain("tls_name_missing");
    expect(await readdir(folder)).not.toContain("dev-ca.pem");
  });

  test("for another name are served, with a warning", async () => {
    const made = await make({ names: ["broker.internal"] });
    const broker = await start(await write(made));
    expect(broker.output()).toContain('"event":"tls_name_missing"');
    expect(await ask(broker.url, made.ca)).toEqual({ code: "ERR_TLS_CERT_ALTNAME_INVALID" });
  });

  test("that cannot be served stop the start with a sentence", async () => {
    const message = await refusal(await write(await make({ from: -3, until: -1 })));
    expect(message).toMatch(/CONSENTRY_TLS the certificate in .*cert\.pem ended on/);
    expect(message).not.toContain("    at ");
  });
});
