import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBroker } from "../../src/core/broker.ts";
import { type Caller, RIGHTS, type Right, ROLES, type Role } from "../../src/core/identity.ts";
import type { Log, Upstream, World } from "../../src/core/ports.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import { createApp } from "../../src/http/app.ts";
import { allowHosts } from "../../src/http/hosts.ts";
import type { RateLimits } from "../../src/http/limits.ts";
import type { Route } from "../../src/http/route.ts";
import { createRoutes } from "../../src/http/routes.ts";
import { readAgentDefinition } from "../../src/http/wire/request.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { createNewId } from "../../src/secrets/ids.ts";
import { callerAudiences } from "../../src/core/issuers.ts";
import { createWorkloadIssuer } from "../../src/secrets/issuer.ts";
import type { Keyring } from "../../src/secrets/keyring.ts";
import { createTokenVerifier } from "../../src/secrets/jwt.ts";
import { createReferences } from "../../src/secrets/references.ts";
import { createSealer } from "../../src/secrets/seal.ts";
import { parseSecretSources } from "../../src/secrets/secret-sources.ts";
import { createSigner } from "../../src/secrets/signer.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { createAuditQueue } from "../../src/store/audit-queue.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { targetFault } from "../../src/upstream/egress-rules.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { createIssuerKeys } from "../../src/upstream/issuer-keys.ts";
import { createMcpUpstream } from "../../src/upstream/mcp.ts";
import { createModelDoor } from "../../src/upstream/models.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { createSignIn } from "../../src/upstream/signin.ts";

export type Answer = { status: number; headers: Headers; body: unknown; text: string };
export type Sending = { key?: string | null; body?: unknown; headers?: Record<string, string> };

/** The HTTP side of a broker on a real SQLite file, without a listener: what a request meets after the socket. */
export type TestApp = {
  world: World;
  routes: readonly Route[];
  logs: { level: string; event: string; fields: Record<string, unknown> }[];
  /** The operator's key, which may do everything. */
  operatorKey: string;
  /** Sends one request; by default with the operator's key. A GET has no body. */
  send: (method: string, path: string, sending?: Sending) => Promise<Answer>;
  /** Exactly this request. */
  raw: (request: Request, address?: string) => Promise<Response>;
  /** A key, in the store itself. */
  makeKey: (key: { project?: string | null; name?: string; roles?: Role[]; rights?: Right[] }) => Promise<{
    key: string;
    caller: Caller;
  }>;
  makeProject: (name: string) => Promise<void>;
  advance: (ms: number) => void;
  stop: () => Promise<void>;
};

const NOWHERE = { ok: false, failure: { kind: "away", why: "there is none here", waitMs: 0 } } as const;

export const HOST = "broker.test";

export async function createTestApp(
  options: {
    rateLimits?: RateLimits;
    egressAllow?: string;
    extraHosts?: string[];
    upstream?: Upstream;
    /** `CONSENTRY_SECRET_SOURCES`, of `env` alone. */
    secretSources?: string;
    env?: Record<string, string>;
  } = {},
): Promise<TestApp> {
  const folder = await mkdtemp(join(tmpdir(), "consentry-app-"));
  const logs: TestApp["logs"] = [];
  const log: Log = (level, event, fields = {}) => logs.push({ level, event, fields });
  let ahead = 0;
  const clock: World["clock"] = {
    now: () => Date.now() + ahead,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
      }),
  };
  const suite = createNodeCrypto();
  const newId = createNewId({
    randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
    now: clock.now,
  });
  const keyring: Keyring = [{ id: "k1", bytes: crypto.getRandomValues(new Uint8Array(32)) }];
  const store = openSqlite(join(folder, "consentry.db"), {
    migrations: join(import.meta.dirname, "../../drizzle/sqlite"),
  });
  const rules = { allow: parseEgressAllow(options.egressAllow ?? "loopback"), own: [] };
  const egress = createNodeEgress(rules);
  const urlFault = (url: string) => targetFault(url, rules);
  const publicUrl = `https://${HOST}`;
  const clientInfo = { name: "consentry", version: "0.0.0" };
  const sealer = createSealer({ keyring, suite });
  const metrics = createMetrics(() => performance.now());
  const world: World = {
    clock,
    newId,
    crypto: suite,
    sealer,
    store,
    audit: createAuditQueue(store.audit, { mode: "sync", clock, log }),
    upstream: options.upstream ?? createMcpUpstream({ egress, clock, log, clientInfo }),
    oauth: createOAuth({ egress, clientInfo, urlFault }),
    signIn: createSignIn({ egress, clientInfo, urlFault, clock }),
    signer: createSigner(keyring),
    callerTokens: createTokenVerifier({
      keys: createIssuerKeys({ egress, clientInfo, urlFault, clock, log }),
      clock,
      crypto: suite,
    }),
    references: createReferences({
      sources: parseSecretSources(options.secretSources ?? ""),
      vaults: { value: async () => NOWHERE },
      files: async () => NOWHERE,
      env: options.env ?? {},
      clock,
      log,
    }),
    entra: null,
    workload: createWorkloadIssuer({
      publicUrl,
      store,
      sealer,
      crypto: suite,
      clock,
      log,
      callerAudiences,
    }),
    publicUrl,
    clientDocumentUrl: (redirectId) => `${publicUrl}/oauth/client/${redirectId}`,
    consent: { proof: "possession", allowPossession: [] },
    model: null,
    modelAt: createModelDoor(egress),
    log,
    observer: metrics.observer,
    local: true,
  };
  const routes = createRoutes({
    world,
    broker: createBroker(world, { readDefinition: readAgentDefinition }),
    publicUrl,
    version: "0.0.0",
    checkTarget: urlFault,
    metrics: metrics.read,
    isStopping: () => false,
  });
  const app = createApp({
    world,
    routes,
    isHostOurs: allowHosts({
      publicUrl,
      listening: { host: "127.0.0.1", port: 8787 },
      extra: options.extraHosts ?? [],
    }),
    addressOf: (c) => (c.env as { address?: string }).address ?? null,
    rateLimits: options.rateLimits ?? { perCaller: 0, perAddress: 0 },
  });

  const raw: TestApp["raw"] = async (request, address = "192.0.2.1") => app.fetch(request, { address });
  const makeKey: TestApp["makeKey"] = async ({ project = "default", name, roles = [], rights = [] }) => {
    const key = `csk_${suite.randomText(32)}`;
    const id = newId("key");
    const caller: Caller = { keyId: id, principal: id, name: name ?? id, project, roles, rights };
    const row = {
      id,
      project,
      name: caller.name,
      principal: id,
      hash: await suite.sha256(key),
      roles,
      rights,
      confirmUrl: null,
      doneUrl: null,
      createdAt: clock.now(),
      expiresAt: null,
    };
    // The one operator key has its own place in the store.
    if (project === null) await store.keys.putBootstrap(row);
    else await store.keys.insert(row, []);
    return { key, caller };
  };
  const makeProject: TestApp["makeProject"] = async (name) => {
    await store.projects.insert({ name, settings: DEFAULT_SETTINGS, version: 1, createdAt: clock.now() }, []);
  };
  await makeProject("default");
  const { key: operatorKey } = await makeKey({ project: null, roles: [...ROLES], rights: [...RIGHTS] });

  return {
    world,
    routes,
    logs,
    operatorKey,
    raw,
    makeKey,
    makeProject,
    send: async (method, path, { key = operatorKey, body, headers = {} } = {}) => {
      const response = await raw(
        new Request(`https://${HOST}${path}`, {
          method,
          headers: { ...(key !== null && { authorization: `Bearer ${key}` }), ...headers },
          ...(body !== undefined &&
            method !== "GET" && { body: typeof body === "string" ? body : JSON.stringify(body) }),
        }),
      );
      const text = await response.text();
      return { status: response.status, headers: response.headers, body: parsed(text), text };
    },
    advance: (ms) => {
      ahead += ms;
    },
    stop: async () => {
      await world.upstream.close();
      await world.audit.close();
      await egress.close();
      await store.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
