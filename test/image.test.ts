// The image without Docker: what its Dockerfile copies is put together from a real bundle, made read-only, and started by its
// command as its user, where whoever runs the tests may do that.
import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { chmod, chown, cp, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Collector, startCollector } from "./helpers/collector.ts";
import {
  copiesOf,
  copy,
  environmentOf,
  execOf,
  readDockerfile,
  type Stage,
  textsOf,
} from "./helpers/dockerfile.ts";
import { type ModernServer, startModernServer } from "./helpers/mcp-servers.ts";
import { freePort } from "./helpers/ports.ts";

const root = join(import.meta.dirname, "..");
const run = promisify(execFile);
const [build, app, warm, last] = readDockerfile(readFileSync(join(root, "Dockerfile"), "utf8"));
const stages = { build: stage(build), app: stage(app), warm: stage(warm), image: on(app, last) };
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  version: string;
  optionalDependencies: Record<string, string>;
};

function stage(found: Stage | undefined): Stage {
  if (!found) throw new Error("the Dockerfile has not two stages");
  return found;
}

/** A stage, with what the one has done that it begins from. */
function on(base: Stage | undefined, added: Stage | undefined): Stage {
  return {
    ...stage(added),
    instructions: [...stage(base).instructions, ...stage(added).instructions],
  };
}

describe("the Dockerfile", () => {
  test("copies what there is, and what .dockerignore lets through", () => {
    const allowed = readFileSync(join(root, ".dockerignore"), "utf8")
      .split("\n")
      .filter((line) => line.startsWith("!"))
      .map((line) => line.slice(1));
    const sources = copiesOf(stages.build).flatMap((one) => one.sources);
    expect(sources.filter((source) => !existsSync(join(root, source)))).toEqual([]);
    expect(sources.toSorted()).toEqual(allowed.toSorted());
  });

  test("has the Node that the tests run on", () => {
    const majors = Object.values(manifest.optionalDependencies).map((version) => version.split(".")[0]);
    for (const { image: name } of [stages.build, stages.app])
      expect([...new Set(majors)]).toEqual([/^node:(\d+)-slim$/.exec(name)?.[1]]);
    for (const { image: name } of [stages.warm, stages.image]) expect(name).toBe(stages.app.name);
  });

  test("runs without a shell, as a user by number that is not root", () => {
    expect(execOf(textsOf(stages.image, "CMD")[0] ?? "")).toEqual([
      "node",
      "--min-semi-space-size=16",
      "lib/consentry.mjs",
    ]);
    expect(execOf(textsOf(stages.image, "HEALTHCHECK")[0] ?? "")).toEqual(["node", "lib/healthcheck.mjs"]);
    expect(textsOf(stages.image, "USER")).toEqual([expect.stringMatching(/^[1-9]\d*:[1-9]\d*$/)]);
    expect(textsOf(stages.image, "ENTRYPOINT")).toEqual([]);
  });

  test("holds no secret, and opens the port that it listens on", () => {
    const env = environmentOf(stages.image);
    expect(Object.keys(env).filter((name) => /KEY|SECRET|TOKEN/.test(name))).toEqual([]);
    expect(textsOf(stages.image, "EXPOSE")).toEqual([env["CONSENTRY_PORT"]]);
    expect(env["CONSENTRY_DATABASE_URL"]).toMatch(/^file:\/data\//);
    expect(textsOf(stages.image, "VOLUME")).toEqual(["/data"]);
  });
});

describe("what the image holds", () => {
  let folder: string;
  let home: string;
  let data: string;
  let server: ModernServer;
  let collector: Collector;
  let port: number;
  let metricsPort: number;
  let broker: ReturnType<typeof spawn>;
  let startedMs: number;
  const said: string[] = [];
  const adminKey = "csk_4vN8sR2kXa7Lq1Zt9Wb3Ye6Hj5Mp0Dc-uGoFiBnVxTw";
  const identity = foreignUser();
  const command = (words: string[]) => ({ file: process.execPath, args: words.slice(1) });
  const environment = () => ({
    ...environmentOf(stages.image),
    NODE_COMPILE_CACHE: join(home, "warm"),
    CONSENTRY_PORT: String(port),
    CONSENTRY_DATABASE_URL: `file:${join(data, "consentry.db")}`,
    SQLITE_TMPDIR: data,
    CONSENTRY_PUBLIC_URL: "https://broker.example.com",
    CONSENTRY_ADMIN_KEY: adminKey,
    CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, adminKey).toString("base64")}`,
    CONSENTRY_ALLOWED_HOSTS: `127.0.0.1:${port}`,
    CONSENTRY_EGRESS_ALLOW: "loopback",
    CONSENTRY_METRICS_PORT: String(metricsPort),
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  });
  const healthcheck = (env: Record<string, string> = environment()) => {
    const { file, args } = command(execOf(textsOf(stages.image, "HEALTHCHECK")[0] ?? ""));
    return spawnSync(file, args, { cwd: home, env, ...identity, encoding: "utf8" });
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "consentry-image-"));
    home = join(folder, "app");
    data = join(folder, "data");
    await mkdir(data);
    await chmod(folder, 0o755);
    const dist = join(folder, "dist");
    await run(process.execPath, [join(root, "bin/build.mjs"), dist]);
    const made = join(folder, "warm");
    await mkdir(made);
    if ("uid" in identity) for (const own of [made, data]) await chown(own, identity.uid, identity.gid);
    const locate = (source: string) =>
      source
        .replace("/tmp/warm", made)
        .replace("/build/dist", dist)
        .replace(/^\/build/, root);
    for (const one of copiesOf(stages.app)) await copy(one, { workdir: home, locate });
    const script = join(folder, "warm.mjs");
    await cp(join(root, "bin/warm.mjs"), script);
    await run("chmod", ["-R", "a+rX", home, script]);
    await run(process.execPath, [script], {
      cwd: home,
      env: { NODE_COMPILE_CACHE: made, TMPDIR: data },
      ...identity,
    });
    for (const one of copiesOf({ ...stages.image, instructions: stage(last).instructions }))
      await copy(one, { workdir: home, locate });
    await run("chmod", ["-R", "a-w,a+rX", home]);
    [server, collector, port, metricsPort] = await Promise.all([
      startModernServer(),
      startCollector(),
      freePort(),
      freePort(),
    ]);
    const { file, args } = command(execOf(textsOf(stages.image, "CMD")[0] ?? ""));
    const begun = performance.now();
    broker = spawn(file, args, {
      cwd: home,
      env: environment(),
      stdio: ["ignore", "pipe", "pipe"],
      ...identity,
    });
    for (const stream of [broker.stdout, broker.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => said.push(text));
    startedMs = await firstAnswer(`http://127.0.0.1:${port}/healthz`, broker).then(
      () => performance.now() - begun,
      () => Number.NaN,
    );
  });
  afterAll(async () => {
    broker?.kill("SIGKILL");
    await Promise.all([server?.stop(), collector?.stop()]);
    await run("chmod", ["-R", "u+w", folder]);
    await rm(folder, { recursive: true, force: true });
  });

  test("starts in an empty place, and soon", () => {
    expect(said.join("")).toContain('"event":"started"');
    // What it took is in docs/performance.md; here it only must not hang, however busy the machine is.
    expect(startedMs).toBeLessThan(15_000);
  });

  test("finds what V8 made of it already, as its user, and cannot change it", () => {
    const env = { ...environment(), NODE_DEBUG_NATIVE: "COMPILE_CACHE", CONSENTRY_PORT: "none" };
    const { file, args } = command(execOf(textsOf(stages.image, "CMD")[0] ?? ""));
    const { stderr } = spawnSync(file, args, { cwd: home, env, ...identity, encoding: "utf8" });
    expect(stderr).toMatch(/cache for ESM \S+lib\/consentry\.mjs was accepted/);
    expect(stderr).toMatch(/cache for ESM \S+lib\/node-\S+\.mjs was accepted/);
    expect(stderr).not.toMatch(/ was (not accepted|rejected)/);
  });

  test("is healthy by its own check", () => {
    expect(healthcheck()).toMatchObject({ status: 0, stderr: "" });
  });

  test("keeps a connection and makes a call", async () => {
    const rest = (method: string, path: string, body: object, key = adminKey) =>
      fetch(`http://127.0.0.1:${port}${path}`, {
        method,
        headers: { "api-key": key, "content-type": "application/json" },
        body: JSON.stringify(body),
      });
    const properties = { category: "RemoteTool", authType: "None", target: server.url };
    const made = await rest("PUT", "/api/projects/default/connections/notes", { properties });
    expect(made.status).toBe(200);
    const keys = "/api/projects/default/keys";
    const runtime = await rest("POST", keys, { name: "runtime", roles: ["runtime"] });
    const { key } = (await runtime.json()) as { key: string };
    const call = {
      tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }],
      input: [
        {
          type: "mcp_call",
          status: "calling",
          id: "call_1",
          server_label: "notes",
          name: "echo",
          arguments: '{"text":"hello"}',
        },
      ],
    };
    const answer = await rest("POST", "/v1/responses", call, key);
    expect(await answer.json()).toMatchObject({ status: "completed", output: [{ output: "hello" }] });
    const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    expect(metrics).toContain('connection="notes",outcome="ok"} 1');
  });

  test("writes nowhere but into its volume, ends when it is told to, and is unhealthy then", async () => {
    broker.kill("SIGTERM");
    const [code] = await once(broker, "exit");
    expect([code, said.join("").includes('"event":"stopped"')]).toEqual([0, true]);
    expect((await readdir(folder)).toSorted()).toEqual(["app", "data", "dist", "warm", "warm.mjs"]);
    expect(await readdir(data)).toContain("consentry.db");
    expect(healthcheck()).toMatchObject({ status: 1, stderr: "unhealthy: ECONNREFUSED\n" });
    // What is read only where it is wanted is in the bundle, too.
    expect(collector.spans().map(({ name }) => name)).toContain("tools/call");
  });

  test("serves https with a certificate of its own making, and its check follows", async () => {
    const at = await freePort();
    const env = {
      CONSENTRY_PORT: String(at),
      CONSENTRY_TLS: "development",
      CONSENTRY_DATABASE_URL: `file:${join(data, "tls.db")}`,
    };
    const { file, args } = command(execOf(textsOf(stages.image, "CMD")[0] ?? ""));
    const secure = spawn(file, args, { cwd: home, env, stdio: "ignore", ...identity });
    try {
      await expect.poll(() => healthcheck(env).status, { timeout: 20_000 }).toBe(0);
      expect(healthcheck({ CONSENTRY_PORT: String(at) }).status).toBe(1);
    } finally {
      secure.kill("SIGKILL");
    }
  });

  test("says its version, and needs better-sqlite3 alone", () => {
    const own = JSON.parse(readFileSync(join(home, "package.json"), "utf8")) as typeof manifest & {
      dependencies: object;
      bin: Record<string, string>;
    };
    expect(own.version).toBe(manifest.version);
    expect(Object.keys(own.dependencies)).toEqual(["better-sqlite3"]);
    expect(existsSync(join(home, own.bin["consentry"] ?? "missing"))).toBe(true);
  });
});

/** The image's user, where we are root and it can run our Node; else ourselves. */
function foreignUser(): { uid: number; gid: number } | Record<never, never> {
  const [uid, gid] = (textsOf(stages.image, "USER")[0] ?? "").split(":").map(Number);
  if (process.getuid?.() !== 0 || uid === undefined || gid === undefined) return {};
  const tried = spawnSync(process.execPath, ["--version"], { uid, gid, cwd: "/" });
  return tried.status === 0 ? { uid, gid } : {};
}

async function firstAnswer(url: string, child: ReturnType<typeof spawn>): Promise<void> {
  while (child.exitCode === null) {
    const answer = await fetch(url).catch(() => null);
    if (answer?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("it ended");
}
