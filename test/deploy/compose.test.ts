// deploy/compose: what its files say fits together, and the three brokers that they describe work behind their proxy.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseEnv } from "node:util";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { parseKeyring } from "../../src/secrets/keyring.ts";
import {
  BROKERS,
  type Composed,
  createSecrets,
  imageEnvironment,
  startComposed,
} from "../helpers/compose.ts";
import { type Compose, deploy, readCompose, recipe, type Service } from "../helpers/deploy.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { hasNginx } from "../helpers/nginx.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { childEnv } from "../helpers/process.ts";
import { call, itemsOf, streamed } from "../helpers/world.ts";

const example = parseEnv(recipe("compose/.env.example"));
const compose: Compose = readCompose(example);
const service = (name: string): Service => {
  const found = compose.services[name];
  if (!found) throw new Error(`there is no service ${name}`);
  return found;
};
const secondsOf = (text: string) => Number(/^(\d+)s$/.exec(text)?.[1]);

describe("compose.yaml", () => {
  test("wants the public URL, and names no variable that .env.example does not", () => {
    expect(() => readCompose({})).toThrow("CONSENTRY_PUBLIC_URL");
    const asked = [...recipe("compose/compose.yaml").matchAll(/\$\{(\w+)/g)].map(([, name = ""]) => name);
    expect([...new Set(asked)].toSorted()).toEqual(Object.keys(example).toSorted());
  });

  test("gives the three brokers the same, and each an address that nginx knows", () => {
    const [first, ...others] = BROKERS.map(service);
    for (const other of others) {
      for (const part of ["environment", "command", "secrets", "image"] as const)
        expect(other[part]).toEqual(first?.[part]);
    }
    const addresses = BROKERS.map((name) => {
      const { networks } = service(name);
      return Array.isArray(networks) ? null : networks["edge"]?.ipv4_address;
    });
    const listed = [...recipe("compose/nginx.conf").matchAll(/server (\S+):8787/g)].map(([, at]) => at);
    expect(listed).toEqual(addresses);
    expect(imageEnvironment()["CONSENTRY_PORT"]).toBe("8787");
  });

  test("lets no container write, gain rights, or fill a disk with its log", () => {
    for (const [name, one] of Object.entries(compose.services)) {
      expect({ name, ...one }).toMatchObject({
        read_only: true,
        cap_drop: ["ALL"],
        security_opt: ["no-new-privileges:true"],
        logging: { options: { "max-size": expect.anything(), "max-file": expect.anything() } },
      });
    }
    expect(Object.keys(compose.services).filter((name) => service(name).cap_add)).toEqual(["postgres"]);
    expect(service("proxy").user).toMatch(/^[1-9]\d*:[1-9]\d*$/);
  });

  test("opens the proxy's ports alone, and leads to the database by a network without a way out", () => {
    expect(Object.keys(compose.services).filter((name) => service(name).ports)).toEqual(["proxy"]);
    expect(service("postgres").networks).toEqual(["data"]);
    expect(service("proxy").networks).toEqual(["edge"]);
    expect(compose.networks["data"]).toEqual({ internal: true });
    const listens = [...recipe("compose/nginx.conf").matchAll(/listen (\d+)/g)].map(([, port]) => port);
    expect(service("proxy").ports?.map((text) => text.split(":").at(-1))).toEqual(listens);
  });

  test("waits longer for a stop than what is stopped takes", () => {
    for (const name of BROKERS) {
      const { shutdownMs } = parseConfig(configured(service(name)));
      // What is at rest only then has 5 seconds more (src/node.ts).
      expect(secondsOf(service(name).stop_grace_period) * 1000).toBeGreaterThan(shutdownMs + 10_000);
    }
    const [, worker] = /worker_shutdown_timeout (\d+)s/.exec(recipe("compose/nginx.conf")) ?? [];
    expect(secondsOf(service("proxy").stop_grace_period)).toBeGreaterThan(Number(worker));
    expect(secondsOf(service("postgres").stop_grace_period)).toBeGreaterThanOrEqual(30);
  });

  test("mounts the files that there are, or that the commands make, each where it is read", () => {
    const mounted = Object.values(compose.services).flatMap(({ secrets = [] }) => secrets);
    expect([...new Set(mounted)].toSorted()).toEqual(Object.keys(compose.secrets).toSorted());
    for (const [name, { file }] of Object.entries(compose.secrets)) expect(file).toBe(`./secrets/${name}`);
    const own = Object.values(compose.services).flatMap(({ volumes = [] }) => volumes);
    const files = own.map((text) => text.split(":")[0] ?? "").filter((path) => path.startsWith("."));
    expect(files.filter((path) => !existsSync(join(deploy, "compose", path)))).toEqual([]);
    const read = `${recipe("compose/nginx.conf")}${JSON.stringify(compose.services)}`;
    const paths = [...read.matchAll(/\/run\/secrets\/([\w.-]+)/g)].map(([, name = ""]) => name);
    expect([...new Set(paths)].toSorted()).toEqual(Object.keys(compose.secrets).toSorted());
    expect(existsSync(join(deploy, "compose", service("broker-1").build ?? "missing", "Dockerfile"))).toBe(
      true,
    );
  });

  test("asks for health by what the image brings", () => {
    for (const name of BROKERS) {
      const [kind, node, script = ""] = service(name).healthcheck?.test ?? [];
      expect([kind, node, script]).toEqual(["CMD", "node", "lib/healthcheck.mjs"]);
    }
    expect(recipe("../Dockerfile")).toContain('CMD ["node", "lib/healthcheck.mjs"]');
  });
});

/** As the container has it, with keys that are long enough. */
function configured({ environment }: Service): Record<string, string> {
  const CONSENTRY_ADMIN_KEY = Buffer.from(Array.from({ length: 32 }, (_, at) => at)).toString("base64");
  return { ...imageEnvironment(), ...environment, CONSENTRY_ADMIN_KEY };
}

describe("make-secrets.sh", () => {
  test("makes what the brokers read, for nobody else, and never anew", async () => {
    const secrets = await createSecrets();
    try {
      await secrets.make();
      expect((await stat(join(secrets.folder, "secrets"))).mode & 0o777).toBe(0o700);
      const names = await readdir(join(secrets.folder, "secrets"));
      expect(names.toSorted()).toEqual(["broker.env", "database-password", "keyring"]);
      const all = await Promise.all(names.map(secrets.read));
      expect(parseKeyring(await secrets.read("keyring"))).toMatchObject([{ id: "k1" }]);
      const { CONSENTRY_ADMIN_KEY = "", PGPASSWORD } = parseEnv(await secrets.read("broker.env"));
      expect(Buffer.from(CONSENTRY_ADMIN_KEY, "base64").length).toBe(32);
      expect(PGPASSWORD).toBe((await secrets.read("database-password")).trim());
      expect(PGPASSWORD).toMatch(/^[0-9a-f]{64}$/);
      for (const name of names) {
        const { mode } = await stat(join(secrets.folder, "secrets", name));
        // Users of the containers read them by a mount of their own.
        expect(mode & 0o777).toBe(0o644);
      }
      expect(await secrets.make()).not.toContain("made");
      expect(await Promise.all(names.map(secrets.read))).toEqual(all);
    } finally {
      await rm(secrets.folder, { recursive: true, force: true });
    }
  });
});

const canRun = hasNginx && inject("postgresUrl") !== "";
/** Three processes that start at once, on a machine that is busy. */
const START_MS = 180_000;

describe.skipIf(!canRun)("the three brokers", () => {
  let composed: Composed;
  let server: ModernServer;
  let key: string;
  const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];

  beforeAll(async () => {
    server = await startModernServer();
    composed = await startComposed({
      databaseUrl: await createDatabase(),
      dotEnv: { ...example, CONSENTRY_EGRESS_ALLOW: "loopback" } as Record<string, string>,
    });
  }, START_MS);
  afterAll(async () => {
    await composed?.stop();
    await server?.stop();
  });

  test("are healthy by their own check, and ready", async () => {
    for (const env of composed.environments) {
      const script = join(dirname(deploy), "bin/healthcheck.mjs");
      const checked = spawnSync(process.execPath, [script], { env: { ...childEnv(), ...env } });
      expect(checked.status).toBe(0);
    }
    const ready = await composed.proxy.fetch(`${composed.proxy.url}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([200, { status: "ready" }]);
  });

  test("keep a connection and make calls, streamed or not, whichever is asked", async () => {
    const properties = { category: "RemoteTool", authType: "None", target: server.url };
    const made = await composed.rest("PUT", "/api/projects/default/connections/notes", { properties });
    expect(made.status).toBe(200);
    const runtime = await composed.rest("POST", "/api/projects/default/keys", {
      name: "runtime",
      roles: ["runtime"],
    });
    key = String((runtime.body as { key: string }).key);
    const whoami = await composed.rest("GET", "/api/projects/default/whoami", undefined, key);
    expect(whoami.status).toBe(200);
    const client = composed.client(key);
    for (let n = 0; n < 6; n++) {
      const body = { tools, input: [call("notes", "echo", { text: `hello ${n}` })] as never };
      const response =
        n % 2 === 0 ? await client.responses.create(body) : (await streamed(client, body)).response;
      expect(itemsOf(response, "mcp_call")).toMatchObject([{ output: `hello ${n}` }]);
    }
    const counted = await Promise.all(
      composed.metricsPorts.map(async (port) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()),
    );
    expect(counted.filter((text) => text.includes("consentry_tool_calls_total{")).length).toBe(3);
  });

  test("a stranger is refused by the head of a request, and whatever they upload is waited for by nobody", async () => {
    const upload = composed.proxy.begin("POST", "/v1/responses", {
      "api-key": "nobody's",
      "content-type": "application/json",
      "content-length": "4000000",
    });
    expect(await upload.status).toBe(401);
    upload.leave();
  });

  test("refuse another name, and say nothing of their secrets", async () => {
    expect(await composed.proxy.statusAs("elsewhere.example.com", "/me/default")).toBe(403);
    const said = composed.replicas.map((replica) => replica.output()).join("\n");
    expect(said).toContain('"event":"started"');
    for (const secret of [composed.adminKey, key]) {
      expect(said.includes(secret)).toBe(false);
      expect((await composed.proxy.logged()).includes(secret)).toBe(false);
    }
  });

  test("one that dies takes no later call with it", async () => {
    await composed.replicas[0]?.kill9();
    const input = [call("notes", "echo", { text: "after" })] as never;
    for (let n = 0; n < 6; n++) {
      const response = await composed.client(key).responses.create({ tools, input });
      expect(itemsOf(response, "mcp_call")).toMatchObject([{ output: "after" }]);
    }
  });
});
