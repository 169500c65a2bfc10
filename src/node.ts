import { readFileSync } from "node:fs";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createAdaptorServer } from "@hono/node-server";
import { getConnInfo } from "@hono/node-server/conninfo";
import { openAzure } from "./azure.ts";
import { ensureProject } from "./bootstrap.ts";
import { type Config, ConfigError, operatorUrls, parseConfig, publicUrlOf } from "./config.ts";
import { createBroker } from "./core/broker.ts";
import { isRefusal } from "./core/errors.ts";
import type { Clock, Log, World } from "./core/ports.ts";
import { openStore, reasonOf } from "./database.ts";
import { createApp } from "./http/app.ts";
import { allowHosts } from "./http/hosts.ts";
import type { ReadMetrics } from "./http/metrics.ts";
import { createRoutes } from "./http/routes.ts";
import { readAgentDefinition } from "./http/wire/request.ts";
import { createNodeCrypto } from "./secrets/crypto.node.ts";
import { createNewId } from "./secrets/ids.ts";
import { callerAudiences } from "./core/issuers.ts";
import { createWorkloadIssuer } from "./secrets/issuer.ts";
import { KeyringError } from "./secrets/keyring.ts";
import { createVaults, type Vaults } from "./secrets/keyvault.ts";
import { createDefaultCredential } from "./secrets/azure-credential.ts";
import { createDraining } from "./draining.ts";
import { dataFolder, ensureBootstrap, loadKeys } from "./first-start.ts";
import { createTokenVerifier } from "./secrets/jwt.ts";
import { EXCHANGE } from "./secrets/entra-settings.ts";
import { createSealer } from "./secrets/seal.ts";
import { createSigner } from "./secrets/signer.ts";
import { lendSecrets } from "./lent-secrets.ts";
import { createLog } from "./log.ts";
import { listenForMetrics, type MetricsListener } from "./metrics-listener.ts";
import { SecretSourcesError } from "./secrets/secret-sources.ts";
import { systemClock } from "./system-clock.ts";
import { loadTls, type TlsFiles } from "./tls.ts";
import { startUpkeep } from "./upkeep.ts";
import { createAuditQueue } from "./store/audit-queue.ts";
import { createMetrics } from "./telemetry/metrics.ts";
import { observeUpstream } from "./telemetry/observed.ts";
import type { Traces } from "./telemetry/traces.ts";
import { EgressAllowError, parseEgressAllow } from "./upstream/egress-allow.ts";
import { listenerOf, targetFault } from "./upstream/egress-rules.ts";
import { createNodeEgress } from "./upstream/egress.node.ts";
import { createIssuerKeys } from "./upstream/issuer-keys.ts";
import { createMcpUpstream } from "./upstream/mcp.ts";
import { createModel, createModelDoor } from "./upstream/models.ts";
import { createOAuth } from "./upstream/oauth.ts";
import { createSignIn } from "./upstream/signin.ts";

const root = join(import.meta.dirname, "..");

export type Running = {
  url: string;
  world: World;
  /** The bootstrap key, if this start made one. */
  madeKey: string | null;
  /** Says so at `/readyz`, stops taking requests, lets those under way finish within the configured time, closes everything. */
  stop: () => Promise<void>;
};

/** The seams of a test: time, what is logged, where authorization servers find what a client says of itself, and vaults of its own. */
export type Seams = {
  clock?: Clock;
  log?: Log;
  clientDocumentUrl?: World["clientDocumentUrl"];
  vaults?: (clock: Clock) => Vaults;
};

/** The command: reads the configuration, serves until SIGINT or SIGTERM, and says in plain words why it cannot. */
export async function main(env: Record<string, string | undefined>): Promise<void> {
  const starting = startOrExplain(env);
  let isStopping = false;
  // Before it has started: a signal that comes meanwhile is heard, too.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      // A second one means that somebody does not want to wait.
      if (isStopping) process.exit(1);
      isStopping = true;
      void starting.then((running) => running?.stop()).then(() => process.exit(0));
    });
  }
  if (!(await starting)) process.exit(1);
}

async function startOrExplain(env: Record<string, string | undefined>): Promise<Running | null> {
  try {
    return await start(parseConfig(env));
  } catch (error) {
    console.error(explanationOf(error) ?? error);
    return null;
  }
}

/** Why the broker does not start, as a sentence that says what to do. Anything else is a bug and keeps its stack. */
function explanationOf(error: unknown): string | null {
  if (error instanceof ConfigError || error instanceof KeyringError) return error.message;
  if (error instanceof EgressAllowError) return `CONSENTRY_EGRESS_ALLOW: ${error.message}`;
  if (error instanceof SecretSourcesError) return `CONSENTRY_SECRET_SOURCES: ${error.message}`;
  if (isRefusal(error, "unavailable")) {
    return `The ${error.details.what} cannot be reached (${reasonOf(error.cause)}). Check CONSENTRY_DATABASE_URL.`;
  }
  if (!(error instanceof Error && "syscall" in error && error.syscall === "listen")) return null;
  const advice =
    codeOf(error) === "EADDRINUSE"
      ? "Stop the other program, or set CONSENTRY_PORT (CONSENTRY_METRICS_PORT for metrics)."
      : "Check CONSENTRY_HOST and CONSENTRY_PORT (CONSENTRY_METRICS_… for metrics).";
  return `${error.message}. ${advice}`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "no code";
}

/** Composes the broker of one process and serves it. Resolves when it answers. */
export async function start(config: Config, seams: Seams = {}): Promise<Running> {
  const clock = seams.clock ?? systemClock;
  const metrics = createMetrics(() => performance.now());
  const log = seams.log ?? createLog(config, { dropped: metrics.lineDropped });
  const allow = parseEgressAllow(config.egressAllow);
  const suite = createNodeCrypto();
  const newId = createNewId({
    randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
    now: clock.now,
  });
  const azure = await openAzure(config, {
    clock,
    env: process.env,
    vouch: (project) =>
      workload.token(
        { identity: { kind: "project", project }, audience: EXCHANGE, fresh: false },
        AbortSignal.timeout(VOUCH_MS),
      ),
  });
  const vaults = seams.vaults?.(clock) ?? createVaults({ credential: createDefaultCredential(), clock });
  const lent = lendSecrets(config, { vaults, clock, log, places: azure?.places ?? [] });
  const tls = await loadTls(config, { folder: dataFolder(config), now: clock.now(), log });
  const store = await openStore(config, log);
  const keys = await loadKeys(config, { store, vaults, clock, log }).catch(async (error: unknown) => {
    await store.close();
    throw error;
  });
  const sealer = createSealer({ keyring: keys, suite });
  const traces = await openTraces(config, log);
  const observer = traces?.traced(metrics.observer) ?? metrics.observer;

  const ready = Promise.withResolvers<Answer>();
  // Whoever balances without probes sends what it has as soon as the port is open: it waits, and is not turned away.
  let answer: Answer = async (request, bindings) => (await ready.promise)(request, bindings);
  const server = createServer(tls, (request, bindings) => answer(request, bindings));
  const draining = createDraining();
  draining.watch(server);
  const port = await listen(server, config).catch(async (error: unknown) => {
    await store.close();
    throw error;
  });
  const scraped = await openMetrics(config, metrics.read).catch(async (error: unknown) => {
    await closeServer(server, 0);
    await store.close();
    throw error;
  });
  const publicUrl = publicUrlOf(config, port);
  const own = [{ host: config.host, port }, listenerOf(publicUrl), ...(scraped ? [scraped] : [])];
  const rules = { allow, own };
  const egress = createNodeEgress(rules);
  const urlFault = (url: string) => targetFault(url, rules);
  const clientInfo = { name: "consentry", version };
  const audit = createAuditQueue(store.audit, { mode: config.audit, clock, log });
  const upstream = createMcpUpstream({ egress, clock, log, clientInfo });
  const model = config.model && createModel(config.model);
  const workload = createWorkloadIssuer({
    publicUrl,
    store,
    sealer,
    crypto: suite,
    clock,
    log,
    callerAudiences,
  });
  const world: World = {
    clock,
    newId,
    crypto: suite,
    sealer,
    store,
    audit,
    upstream: observeUpstream(upstream, observer),
    oauth: createOAuth({ egress, clientInfo, urlFault }),
    signIn: createSignIn({ egress, clientInfo, urlFault, clock }),
    signer: createSigner(keys),
    references: lent.references,
    callerTokens: createTokenVerifier({
      keys: createIssuerKeys({ egress, clientInfo, urlFault, clock, log }),
      clock,
      crypto: suite,
    }),
    workload,
    entra: azure?.entra ?? null,
    publicUrl,
    clientDocumentUrl: seams.clientDocumentUrl ?? ((redirectId) => clientDocumentUrl(publicUrl, redirectId)),
    consent: { proof: config.consentProof, allowPossession: config.allowPossession },
    model,
    modelAt: createModelDoor(egress),
    log,
    observer,
    local: config.local,
  };
  const broker = createBroker(world, { readDefinition: readAgentDefinition });
  const madeKey = await ensureBootstrap(world, config);
  await ensureProject(world);

  const { isStopping } = draining;
  const deps = {
    world,
    broker,
    publicUrl,
    version,
    checkTarget: urlFault,
    metrics: metrics.read,
    isStopping,
  };
  const app = createApp({
    world,
    routes: createRoutes(deps),
    isHostOurs: allowHosts({ publicUrl, listening: { host: config.host, port }, extra: config.allowedHosts }),
    addressOf: (c) => getConnInfo(c).remote.address ?? null,
    rateLimits: config.rateLimits,
  });
  answer = (request, bindings) => app.fetch(request, bindings as object);
  ready.resolve(answer);
  const upkeep = startUpkeep(world, { broker, keys });
  broker.background.work();
  const watching = keys.watch();
  log("info", "started", {
    url: publicUrl,
    egressAllow: config.egressAllow,
    operatorUrls: [...operatorUrls(config), ...lent.operatorUrls],
    ...(azure && { azure: azure.shown }),
    ...(scraped && { metrics: scraped.url }),
  });

  const stop = async () => {
    log("info", "stopping", { graceMs: config.shutdownMs });
    await draining.begin(config.drainMs);
    // Before those are waited for who only read what another can go on with.
    const handedOver = broker.background.stop();
    await closeServer(server, config.shutdownMs - config.drainMs);
    await scraped?.stop();
    const ends = [upkeep.stop(), watching.stop(), broker.idle(), broker.disconnect.idle(), handedOver];
    const atRest = Promise.all(ends);
    await Promise.race([atRest, delay(STOP_MARGIN_MS, undefined, { ref: false })]);
    await upstream.close();
    await audit.close();
    await egress.close();
    // A database that has gone silent holds up nobody who stops.
    await Promise.race([store.close(), delay(STOP_MARGIN_MS, undefined, { ref: false })]);
    await traces?.close();
    log("info", "stopped");
  };
  return { url: publicUrl, world, madeKey, stop };
}

const STOP_MARGIN_MS = 5_000;
const VOUCH_MS = 10_000;
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };

type Server = ReturnType<typeof createAdaptorServer>;
type Answer = (request: Request, bindings: unknown) => Promise<Response> | Response;

function createServer(tls: TlsFiles | null, fetch: (request: Request, env: unknown) => unknown): Server {
  return createAdaptorServer(
    tls ? { fetch, createServer: createHttpsServer, serverOptions: tls } : { fetch },
  );
}

function listen(server: Server, { host, port }: Config): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      // A TCP server that listens has an address with a port.
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** The packages are read only where somebody wants traces. */
async function openTraces({ traces }: Config, log: Log): Promise<Traces | null> {
  if (!traces) return null;
  const { createTraces } = await import("./telemetry/traces.ts");
  return createTraces({ ...traces, version, clock: systemClock, log });
}

async function openMetrics({ metrics }: Config, read: ReadMetrics): Promise<MetricsListener | null> {
  return metrics && listenForMetrics(metrics, read);
}

/** No new connections; those with a request in flight get their answer, for as long as the grace lasts. */
async function closeServer(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  if (!("closeIdleConnections" in server)) return closed;
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
  const late = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearInterval(idle);
  clearTimeout(late);
}

const IDLE_SWEEP_MS = 50;

/** The client identifier metadata document (DESIGN 6): authorization servers read it over https only. */
function clientDocumentUrl(publicUrl: string, redirectId: string): string | null {
  return publicUrl.startsWith("https:") ? `${publicUrl}/oauth/client/${redirectId}` : null;
}
