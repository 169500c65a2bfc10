import { bootstrapKey, ensureProject } from "./bootstrap.ts";
import { textsOf, type WorkerConfig } from "./config-worker.ts";
import { createBroker } from "./core/broker.ts";
import { createHousekeeper } from "./core/housekeeping.ts";
import { callerAudiences } from "./core/issuers.ts";
import type { Keep } from "./core/keep.ts";
import { noObserver } from "./core/observe.ts";
import { createResealer } from "./core/reseal.ts";
import type { Clock, Log, World } from "./core/ports.ts";
import { createApp } from "./http/app.ts";
import { allowHosts } from "./http/hosts.ts";
import { createRoutes } from "./http/routes.ts";
import { readAgentDefinition } from "./http/wire/request.ts";
import { withOwnKey } from "./own-key.ts";
import { createBoxKeys } from "./secrets/box-keys.ts";
import { createWebCrypto } from "./secrets/crypto.web.ts";
import { createNewId } from "./secrets/ids.ts";
import { createWorkloadIssuer } from "./secrets/issuer.ts";
import { createTokenVerifier } from "./secrets/jwt.ts";
import { isPlaceholder, parseKeyring } from "./secrets/keyring.ts";
import { createReferences } from "./secrets/references.ts";
import { createSealer } from "./secrets/seal.ts";
import { parseSecretSources } from "./secrets/secret-sources.ts";
import { createSigner } from "./secrets/signer.ts";
import { createBackgroundAudit } from "./store/audit-background.ts";
import { type D1, openD1, requireSchema } from "./store/d1.ts";
import { sweepOnce } from "./sweeps.ts";
import { systemClock } from "./system-clock.ts";
import { parseEgressAllow } from "./upstream/egress-allow.ts";
import { listenerOf, targetFault } from "./upstream/egress-rules.ts";
import { createWebEgress } from "./upstream/egress.web.ts";
import { createIssuerKeys } from "./upstream/issuer-keys.ts";
import { createMcpUpstream } from "./upstream/mcp.ts";
import { createModel, createModelDoor } from "./upstream/models.ts";
import { createOAuth } from "./upstream/oauth.ts";
import { createSignIn } from "./upstream/signin.ts";
import { LIFE_MS } from "./worker-life.ts";

// The world of a Worker. Part of the door `worker.ts`.

export type WorkerBroker = {
  fetch: (request: Request) => Promise<Response>;
  /** What no request waits for, once. Never rejects. */
  sweep: () => Promise<void>;
};

/**
 * Composes the broker of one isolate. `keep` keeps what is begun for a request alive beyond it, since others may wait for it.
 *
 * Throws `unavailable` where the database cannot be used, `EgressAllowError`, `KeyringError` and `SecretSourcesError`.
 */
export async function openWorker(
  config: WorkerConfig,
  {
    bindings,
    d1,
    migrations,
    version,
    keep,
    log,
  }: {
    bindings: Record<string, unknown>;
    d1: D1;
    migrations: readonly string[];
    version: string;
    keep: Keep;
    log: Log;
  },
): Promise<WorkerBroker> {
  const clock = createClock(keep);
  const { publicUrl } = config;
  const suite = createWebCrypto();
  const keyring = parseKeyring(config.keyring.text);
  for (const key of keyring.filter(isPlaceholder)) log("warn", "keyring_placeholder", { keyId: key.id });
  const sources = parseSecretSources(config.secretSources);
  const own = [listenerOf(publicUrl)];
  const rules = { allow: parseEgressAllow(config.egressAllow), own, onlyNamed: true };
  const egress = createWebEgress({ ...rules, keep });
  const urlFault = (url: string) => targetFault(url, rules);
  const clientInfo = { name: "consentry", version };
  await requireSchema(d1, { migrations });
  const ownKey = await bootstrapKey({ crypto: suite, clock, local: config.local }, config.adminKey);
  const store = withOwnKey(openD1(d1, { migrations, keep }), ownKey);
  const sealer = createSealer({ keyring, suite });
  const world: World = {
    clock,
    newId: createNewId({
      randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
      now: clock.now,
    }),
    crypto: suite,
    sealer,
    store,
    audit: createBackgroundAudit(store.audit, { mode: config.audit, keep, clock, log }),
    upstream: createMcpUpstream({ egress, clock, log, clientInfo }),
    oauth: createOAuth({ egress, clientInfo, urlFault }),
    signIn: createSignIn({ egress, clientInfo, urlFault, clock }),
    signer: createSigner(keyring),
    references: createReferences({
      sources,
      vaults: { value: async () => NOWHERE },
      files: async () => NOWHERE,
      env: textsOf(bindings),
      clock,
      log,
    }),
    callerTokens: createTokenVerifier({
      keys: createIssuerKeys({ egress, clientInfo, urlFault, clock, log }),
      clock,
      crypto: suite,
    }),
    workload: createWorkloadIssuer({ publicUrl, store, sealer, crypto: suite, clock, log, callerAudiences }),
    entra: null,
    publicUrl,
    clientDocumentUrl: (redirectId) =>
      publicUrl.startsWith("https:") ? `${publicUrl}/oauth/client/${redirectId}` : null,
    consent: { proof: config.consentProof, allowPossession: config.allowPossession },
    model: config.model && createModel(config.model),
    modelAt: createModelDoor(egress),
    log,
    observer: noObserver,
    local: config.local,
  };
  const broker = createBroker(world, { readDefinition: readAgentDefinition });
  await ensureProject(world);
  const app = createApp({
    world,
    routes: createRoutes({
      world,
      broker,
      publicUrl,
      version,
      checkTarget: urlFault,
      metrics: null,
      isStopping: () => false,
    }),
    isHostOurs: allowHosts({ publicUrl, listening: listenerOf(publicUrl), extra: config.allowedHosts }),
    // Cloudflare's own word, which no client can write.
    addressOf: (c) => c.req.header("cf-connecting-ip") ?? null,
    rateLimits: config.rateLimits,
  });
  return {
    fetch: async (request) => toHttps(request, publicUrl) ?? app.fetch(request),
    sweep: () =>
      sweepOnce(
        log,
        {
          housekeeping: createHousekeeper(world).tend,
          revocations: () => broker.disconnect.sweep(),
          signingKeys: () => world.workload.sweep(),
          reseal: createResealer(world, createBoxKeys(keyring)).tend,
          // Last: it takes as long as what it finds.
          takeUp: () => broker.background.workOnce(),
        },
        new AbortController().signal,
      ),
  };
}

/** Cloudflare serves both. 301 and not 308: a client that sends its key unencrypted shall notice. */
function toHttps(request: Request, publicUrl: string): Response | null {
  const { protocol, pathname, search } = new URL(request.url);
  if (protocol === "https:" || publicUrl.startsWith("http:")) return null;
  return new Response(null, { status: 301, headers: { location: `${publicUrl}${pathname}${search}` } });
}

const NOWHERE = {
  ok: false,
  failure: { kind: "away", why: "a Worker reads env:NAME alone", waitMs: 0 },
} as const;

function createClock(keep: Keep): Clock {
  const { now, sleep } = systemClock;
  return {
    now,
    // Longer waits are nobody's that asks: what they wait for comes with the next isolate.
    sleep: (ms, signal) => (ms > LIFE_MS ? sleep(ms, signal) : keep(sleep(ms, signal))),
    cutsAfterMs: LIFE_MS,
  };
}
