// deploy/kubernetes without a cluster: that its manifests fit each other, the image and the broker.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { imageEnvironment } from "../helpers/compose.ts";
import { deploy, type Manifest, manifestsOf, readManifests, recipe } from "../helpers/deploy.ts";
import { readDockerfile, textsOf } from "../helpers/dockerfile.ts";

type Port = { name: string; containerPort: number };
type Get = { httpGet: { path: string; port: string }; periodSeconds: number; failureThreshold: number };
type Variable = { name: string; valueFrom: { secretKeyRef: { name: string; key: string } } };
type Container = {
  image: string;
  env: Variable[];
  envFrom: { configMapRef: { name: string } }[];
  ports: Port[];
  startupProbe: Get;
  readinessProbe: Get;
  livenessProbe: Get;
  securityContext: unknown;
  volumeMounts: { name: string; mountPath: string; readOnly: boolean }[];
};
type Secret = { secretName: string; defaultMode: number; items: { key: string; path: string }[] };
type Labels = Record<string, string>;
type Deployed = Manifest & {
  spec: {
    replicas: number;
    strategy: { rollingUpdate: { maxUnavailable: number; maxSurge: number } };
    selector: { matchLabels: Labels };
    template: {
      metadata: { labels: Labels };
      spec: {
        serviceAccountName: string;
        terminationGracePeriodSeconds: number;
        securityContext: { runAsUser: number; runAsGroup: number };
        containers: [Container];
        volumes: [{ name: string; secret: Secret }];
      };
    };
  };
};
type Served = Manifest & { spec: { selector: Labels; ports: { name: string; targetPort: string }[] } };
type Policy = {
  ports: { port: string | number }[];
  to?: { ipBlock?: { cidr: string; except?: string[] } }[];
};

const folder = join(deploy, "kubernetes");
const names = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
const manifests = names.flatMap((name) => readManifests(`kubernetes/${name}`));
/** Seam: what the tests want of a kind; they fail where it is not there. */
const ofKind = <T extends Manifest>(kind: string) => manifests.filter((one) => one.kind === kind) as T[];
const only = <T extends Manifest>(kind: string): T => {
  const [found, ...others] = ofKind<T>(kind);
  if (!found || others.length > 0) throw new Error(`not one ${kind}`);
  return found;
};
const deployment = only<Deployed>("Deployment");
const pod = deployment.spec.template.spec;
const [container] = pod.containers;
const settings = only<Manifest & { data: Record<string, string> }>("ConfigMap").data;
const portOf = (name: string) => container.ports.find((port) => port.name === name)?.containerPort;

test("the kustomization names every manifest but the one that needs the Prometheus operator", () => {
  const { resources, images } = only<Manifest & { resources: string[]; images: { name: string }[] }>(
    "Kustomization",
  );
  const optional = ["kustomization.yaml", "servicemonitor.yaml"];
  expect(resources.toSorted()).toEqual(names.filter((name) => !optional.includes(name)).toSorted());
  expect(images.map(({ name }) => name)).toEqual([container.image]);
  expect(manifests.filter(({ metadata }) => metadata?.namespace !== undefined)).toEqual([]);
});

const hasKubectl = spawnSync("kubectl", ["version", "--client"]).status === 0;
if (!hasKubectl) console.warn("deploy/kubernetes is not rendered: there is no kubectl here.");

test.skipIf(!hasKubectl)("kubectl makes one set of manifests of it, with the image that it names", () => {
  const { stdout, stderr, status } = spawnSync("kubectl", ["kustomize", folder], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const rendered = manifestsOf(stdout);
  const others = ["Kustomization", "ServiceMonitor"];
  expect(rendered.map(({ kind }) => kind).toSorted()).toEqual(
    manifests.flatMap(({ kind }) => (others.includes(kind) ? [] : kind)).toSorted(),
  );
  expect(stdout).toMatch(/image: registry\.example\.com\/consentry:\d+\.\d+\.\d+\n/);
});

test("every manifest is of a version that current clusters know", () => {
  const kinds = Object.fromEntries(manifests.map(({ kind, apiVersion }) => [kind, apiVersion]));
  expect(kinds).toEqual({
    Kustomization: "kustomize.config.k8s.io/v1beta1",
    ConfigMap: "v1",
    ServiceAccount: "v1",
    Deployment: "apps/v1",
    Service: "v1",
    PodDisruptionBudget: "policy/v1",
    NetworkPolicy: "networking.k8s.io/v1",
    Ingress: "networking.k8s.io/v1",
    ServiceMonitor: "monitoring.coreos.com/v1",
  });
});

test("the broker accepts the settings, and has no file of its own", () => {
  const CONSENTRY_ADMIN_KEY = Buffer.from(Array.from({ length: 32 }, (_, at) => at)).toString("base64");
  const config = parseConfig({ ...imageEnvironment(), ...settings, CONSENTRY_ADMIN_KEY });
  expect(config).toMatchObject({ local: false, host: "0.0.0.0", database: { kind: "postgres" } });
  const { mountPath, readOnly } = container.volumeMounts[0] ?? {};
  const { secret } = pod.volumes[0];
  expect(config.keyring).toEqual({
    kind: "file",
    path: `${mountPath}/${secret.items[0]?.path}`,
    create: false,
  });
  expect([readOnly, secret.defaultMode]).toEqual([true, 0o440]);
  expect(container.envFrom).toEqual([{ configMapRef: { name: "consentry" } }]);
});

test("secrets are the secret's, by the keys that the command makes", () => {
  const used = container.env.map(({ valueFrom: { secretKeyRef } }) => secretKeyRef);
  const { secretName, items } = pod.volumes[0].secret;
  expect(new Set([secretName, ...used.map(({ name }) => name)])).toEqual(new Set(["consentry"]));
  expect(container.env.map(({ name }) => name)).toEqual(["CONSENTRY_ADMIN_KEY", "PGPASSWORD"]);
  const made = [...recipe("kubernetes/README.md").matchAll(/--from-file=secrets\/([\w-]+)/g)];
  const keys = [...used.map(({ key }) => key), ...items.map(({ key }) => key)];
  expect(made.map(([, key = ""]) => key).toSorted()).toEqual(keys.toSorted());
  expect(Object.keys(settings).filter((name) => /ADMIN_KEY|API_KEY|PASSWORD/.test(name))).toEqual([]);
});

test("probes ask what there is: the database decides on traffic, and never on a restart", () => {
  const served = readFileSync(join(deploy, "../src/http/health.ts"), "utf8");
  const { startupProbe, readinessProbe, livenessProbe } = container;
  for (const { httpGet } of [startupProbe, readinessProbe, livenessProbe]) {
    expect(served).toContain(`path: "${httpGet.path}"`);
    expect(httpGet.port).toBe("http");
  }
  expect(readinessProbe.httpGet.path).toBe("/readyz");
  expect([startupProbe.httpGet.path, livenessProbe.httpGet.path]).toEqual(["/healthz", "/healthz"]);
});

test("ports are the image's and the settings', and every service leads to one", () => {
  const [app] = readDockerfile(recipe("../Dockerfile")).filter(({ name }) => name === "app");
  expect(app && textsOf(app, "EXPOSE")).toEqual([String(portOf("http"))]);
  expect(settings["CONSENTRY_METRICS_PORT"]).toBe(String(portOf("metrics")));
  const { labels } = deployment.spec.template.metadata;
  for (const { spec } of ofKind<Served>("Service")) {
    expect(labels).toMatchObject(spec.selector);
    expect(
      spec.ports.map(({ targetPort }) => portOf(targetPort)).filter((port) => port === undefined),
    ).toEqual([]);
  }
  // Metrics have a service of their own, to which no ingress leads.
  const ingress = JSON.stringify(only("Ingress"));
  expect(ingress).toContain('"service":{"name":"consentry","port":{"name":"http"}}');
  expect(ingress).not.toContain("metrics");
});

test("a pod is given longer to end than the broker takes", () => {
  const CONSENTRY_ADMIN_KEY = Buffer.from(Array.from({ length: 32 }, (_, at) => at)).toString("base64");
  const { shutdownMs, drainMs } = parseConfig({
    ...imageEnvironment(),
    ...settings,
    CONSENTRY_ADMIN_KEY,
  });
  // What is at rest only then has 5 seconds more (src/node.ts).
  expect(pod.terminationGracePeriodSeconds * 1000).toBeGreaterThan(shutdownMs + 10_000);
  const { periodSeconds, failureThreshold } = container.readinessProbe;
  expect(drainMs).toBeGreaterThan(2 * periodSeconds * failureThreshold * 1000);
  expect(shutdownMs - drainMs).toBeGreaterThan(30_000);
});

test("an update never has fewer replicas than before, nor does a node that is emptied take two", () => {
  expect(deployment.spec.replicas).toBe(3);
  expect(deployment.spec.strategy.rollingUpdate).toEqual({ maxUnavailable: 0, maxSurge: 1 });
  expect(only("PodDisruptionBudget")).toMatchObject({
    spec: { maxUnavailable: 1, selector: deployment.spec.selector },
  });
  expect(deployment.spec.template.metadata.labels).toMatchObject(deployment.spec.selector.matchLabels);
});

test("it runs as the image's user, without rights, on a file system that it cannot write", () => {
  const user = readDockerfile(recipe("../Dockerfile")).flatMap((stage) => textsOf(stage, "USER"));
  const { runAsUser, runAsGroup } = pod.securityContext;
  expect(user).toEqual([`${runAsUser}:${runAsGroup}`]);
  expect(pod).toMatchObject({
    automountServiceAccountToken: false,
    serviceAccountName: only("ServiceAccount").metadata.name,
    securityContext: { runAsNonRoot: true, fsGroup: runAsGroup, seccompProfile: { type: "RuntimeDefault" } },
  });
  expect(container.securityContext).toEqual({
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  });
});

test("the network is closed both ways but for what is named", () => {
  const { spec } = only<Manifest & { spec: { policyTypes: string[]; ingress: Policy[]; egress: Policy[] } }>(
    "NetworkPolicy",
  );
  expect(spec).toMatchObject({
    policyTypes: ["Ingress", "Egress"],
    podSelector: deployment.spec.selector,
  });
  expect(spec.ingress.flatMap(({ ports }) => ports.map(({ port }) => port))).toEqual(["http", "metrics"]);
  const egress = spec.egress.flatMap(({ ports }) => ports.map(({ port }) => port));
  expect(egress).toEqual([53, 53, 5432, 443]);
  const everywhere = spec.egress.flatMap(({ to = [] }) => to.flatMap(({ ipBlock }) => ipBlock ?? []));
  for (const { cidr, except = [] } of everywhere.filter((block) => block.cidr.endsWith("/0")))
    // The cloud's metadata service above all.
    expect(except).toContain(cidr === "::/0" ? "fe80::/10" : "169.254.0.0/16");
});
