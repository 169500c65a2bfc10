import { z } from "zod";

/** What `CONSENTRY_AZURE` says: Microsoft Entra identities, whose they are, and where their tokens may go. No secret is in it. */
export type AzureSettings = {
  /** An https origin. */
  authorityHost: string;
  identities: Record<string, AzureIdentity>;
  /** By project; `*` is for those that are not named. */
  projects: Record<string, AzureProject>;
  targets: { host: string; audience: string }[];
};

/** How a configured identity proves itself to Microsoft Entra. */
export type AzureIdentity =
  | { type: "managed"; clientId: string | null }
  /** A null `tokenFile` is what `AZURE_FEDERATED_TOKEN_FILE` names. */
  | { type: "workload"; tenantId: string; clientId: string; tokenFile: string | null }
  /** `clientSecret`: `env:NAME` or `file:/path`, never the secret. */
  | { type: "secret"; tenantId: string; clientId: string; clientSecret: string }
  | { type: "certificate"; tenantId: string; clientId: string; certificateFile: string }
  /** The broker's own issuer vouches for the project that asks: nothing is kept, and nothing of Azure is needed here. */
  | { type: "federated"; tenantId: string; clientId: string };

export type AzureProject = {
  /** The name of the project's own identity. */
  identity: string | null;
  /** Client ids of agent identities: the one that agents share, and agents' own. */
  agents: {
    tenantId: string;
    blueprintId: string;
    shared: string | null;
    own: Record<string, string>;
  } | null;
  /** Who exchanges users' tokens. `app`: the app registration that trusts the identity, where that is not the identity's own. */
  onBehalfOf: { identity: string; app: { tenantId: string; clientId: string } | null } | null;
};

const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/;

const text = (pattern: RegExp, message: string) => z.string(message).regex(pattern, message);
const clientId = text(GUID, "must be a client (application) id, a GUID").transform((id) => id.toLowerCase());
const tenantId = text(GUID, "must be a tenant's (directory) id, a GUID").transform((id) => id.toLowerCase());
const name = text(NAME, "must be a name of letters, digits, - and _");
const path = text(/^[^\0\r\n]{1,1024}$/, "must be the path of a file");
const nullByDefault = <T extends z.ZodType>(schema: T) =>
  schema.nullish().transform((value) => value ?? null);
const named = <T extends z.ZodType>(keys: RegExp, values: T) =>
  z.record(z.string().regex(keys), values, "must be an object");
const object = <S extends z.ZodRawShape>(shape: S) => z.strictObject(shape, { error: objectFault });

const identity = z.discriminatedUnion(
  "type",
  [
    object({ type: z.literal("managed"), clientId: nullByDefault(clientId) }),
    object({ type: z.literal("workload"), tenantId, clientId, tokenFile: nullByDefault(path) }),
    object({
      type: z.literal("secret"),
      tenantId,
      clientId,
      clientSecret: text(
        /^(env:[A-Za-z_][A-Za-z0-9_]*|file:[^\0\r\n]{1,1024})$/,
        "must be env:NAME or file:/path; the secret itself does not belong here",
      ),
    }),
    object({ type: z.literal("certificate"), tenantId, clientId, certificateFile: path }),
    object({ type: z.literal("federated"), tenantId, clientId }),
  ],
  'must have a type: "managed", "workload", "federated", "secret" or "certificate"',
);

const project = object({
  identity: nullByDefault(name),
  agents: nullByDefault(
    object({
      tenantId,
      blueprintId: clientId,
      shared: nullByDefault(clientId),
      own: named(NAME, clientId).prefault({}),
    }),
  ),
  onBehalfOf: nullByDefault(
    z.union([
      name.transform((identityName) => ({ identity: identityName, app: null })),
      object({ identity: name, tenantId, clientId }).transform(({ identity: identityName, ...app }) => ({
        identity: identityName,
        app,
      })),
    ]),
  ),
});

const schema = object({
  authorityHost: z
    .string("must be an https origin")
    .refine(isHttpsOrigin, "must be an https origin, such as https://login.microsoftonline.com")
    .transform((url) => new URL(url).origin)
    .prefault("https://login.microsoftonline.com"),
  identities: named(NAME, identity).prefault({}),
  projects: named(/^(\*|[a-zA-Z0-9][a-zA-Z0-9_-]{0,63})$/, project).prefault({}),
  targets: z
    .array(
      object({
        host: z
          .string("must be a host")
          .refine(isTargetHost, "must be host, *.host or either with :port; http://host:port on loopback"),
        audience: text(/^[\x21-\x7e]{1,512}$/, "must be the resource that tokens are for"),
      }),
      "must be a list",
    )
    .prefault([]),
});

/**
 * Reads the text of `CONSENTRY_AZURE`, given itself or by a file. Gives the settings, or every fault as a sentence that names its
 * place in the text and never what stands there.
 */
export function parseAzure(json: string): { settings: AzureSettings; faults: [] } | { faults: string[] } {
  const given = parsed(json);
  if (given === undefined) return { faults: ["must be JSON"] };
  const { data, error } = schema.safeParse(given);
  if (error) return { faults: error.issues.flatMap(faultsOf) };
  const faults = contradictions(data);
  return faults.length > 0 ? { faults } : { settings: data, faults: [] };
}

/** What its parts have to say to each other. */
function contradictions({ identities, projects }: AzureSettings): string[] {
  const faults: string[] = [];
  const known = new Map(Object.entries(identities));
  for (const [projectName, { identity: own, agents, onBehalfOf }] of Object.entries(projects)) {
    const at = `at projects.${projectName}`;
    if (own !== null && !known.has(own)) faults.push(`${at}.identity names no identity`);
    if (agents && own === null)
      faults.push(`${at}.agents needs an identity beside it, which vouches for them`);
    if (agents && agents.shared === null && Object.keys(agents.own).length === 0)
      faults.push(`${at}.agents has neither shared nor own identities`);
    if (!onBehalfOf) continue;
    const exchanger = known.get(onBehalfOf.identity);
    if (!exchanger) faults.push(`${at}.onBehalfOf names no identity`);
    const isFederated = exchanger?.type === "managed" || exchanger?.type === "workload";
    if (exchanger?.type === "managed" && !onBehalfOf.app)
      faults.push(
        `${at}.onBehalfOf names a managed identity, and needs the app registration that trusts it: {"identity","tenantId","clientId"}`,
      );
    if (exchanger && onBehalfOf.app && !isFederated)
      faults.push(
        `${at}.onBehalfOf names an identity of type ${exchanger.type}, which is an app registration itself: give its name alone`,
      );
  }
  if (Object.keys(projects).length > 0 && known.size === 0) faults.push("at identities has none");
  return faults;
}

function faultsOf(issue: z.core.$ZodIssue): string[] {
  const at = issue.path.length > 0 ? `at ${issue.path.map(String).join(".")} ` : "";
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => `at ${[...issue.path.map(String), key].join(".")} is unknown`);
  if (issue.code === "invalid_key") return [`${at}has a name that cannot be`];
  // Of a union, the branch that came furthest has something to say.
  if (issue.code === "invalid_union" && issue.errors.length > 0) {
    const [nearest = []] = issue.errors.toSorted((a, b) => depthOf(b) - depthOf(a));
    return nearest.flatMap((inner) => faultsOf({ ...inner, path: [...issue.path, ...inner.path] }));
  }
  return [`${at}${issue.message}`];
}

const depthOf = (issues: z.core.$ZodIssue[]) =>
  Math.max(...issues.map((issue) => issue.path.length + (issue.code === "unrecognized_keys" ? 1 : 0)));

function objectFault(issue: { code?: string | undefined }): string | undefined {
  return issue.code === "invalid_type" ? "must be an object" : undefined;
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

function isHttpsOrigin(url: string): boolean {
  const parts = URL.parse(url);
  return parts?.protocol === "https:" && parts.href === `${parts.origin}/`;
}

/** `*` stands for one or more names before a host of at least two; http is for loopback hosts, in full. */
function isTargetHost(host: string): boolean {
  const isHttp = host.startsWith("http://");
  const plain = isHttp ? host.slice("http://".length) : host.replace(/^\*\./, "");
  const url = URL.parse(`${isHttp ? "http" : "https"}://${plain}`);
  if (!url || url.href !== `${url.origin}/` || /[/?#@*\s\\]/.test(plain) || url.hostname.endsWith("."))
    return false;
  if (isHttp) return /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  return !host.startsWith("*.") || /[^.]\.[a-z]/.test(url.hostname);
}
