import type { Way } from "../authorization.ts";
import type { Connection } from "../connection.ts";
import { explainFailure, type Finding, IS_OPEN } from "../diagnosis-failures.ts";
import type { AuthServer, OAuthFailure, OAuthOutcome } from "../oauth.ts";
import type { World } from "../ports.ts";
import type { SignInSettings } from "../project.ts";

/** What servers say of a setup. `faults`: why it cannot work, the first one being the reason; `notes`: what else was seen. */
export type Probed = { faults: Finding[]; notes: string[] };

/**
 * Asks the servers of an app that somebody typed what they say without a person: whether the metadata contradict it, and
 * whether the MCP server is there at all. Requests go out at the same time, and end within five seconds.
 */
export async function probeApp(
  world: World,
  connection: Connection,
  { server }: Way,
  caller: AbortSignal,
): Promise<Probed> {
  const signal = bounded(caller);
  const [told, answered] = await Promise.all([
    probeServer(world, server, signal),
    listWithoutToken(world, connection, signal),
  ]);
  const target = judgeTarget(connection, answered);
  return { faults: [...told.faults, ...target.faults], notes: [...told.notes, ...target.notes] };
}

/** What to try instead of discovery that failed. Empty: nothing better is known. */
export async function adviseOnDiscovery(
  world: World,
  connection: Connection,
  caller: AbortSignal,
): Promise<string[]> {
  const signal = bounded(caller);
  const [listed, guard] = await Promise.all([
    listWithoutToken(world, connection, signal),
    world.oauth.protectedResource(connection.target, null, signal),
  ]);
  return listed.ok && guard.ok && guard.value === null ? [IS_OPEN] : [];
}

/** Whether people could sign in at the project's provider, as far as its metadata say. Null: they could. */
export async function signInFault(
  world: World,
  { issuer, clientId }: SignInSettings,
  caller: AbortSignal,
): Promise<string | null> {
  // The URL is made and thrown away: what it takes to make one is what is asked.
  const outcome = await world.signIn.authorizationUrl(
    {
      issuer,
      clientId,
      clientSecret: null,
      redirectUri: `${world.publicUrl}/signin/callback`,
      state: "none",
      nonce: "none",
      verifier: world.crypto.randomText(VERIFIER_BYTES),
    },
    bounded(caller),
  );
  if (outcome.ok) return null;
  return `signIn names the issuer ${issuer}, at which nobody can sign in now: ${sentenceOf(outcome.failure)}`;
}

const PROBE_MS = 5_000;
const VERIFIER_BYTES = 32;

function bounded(caller: AbortSignal): AbortSignal {
  return AbortSignal.any([caller, AbortSignal.timeout(PROBE_MS)]);
}

async function probeServer(
  { oauth }: Pick<World, "oauth">,
  server: AuthServer,
  signal: AbortSignal,
): Promise<Probed> {
  const { issuer, authorizationEndpoint, tokenEndpoint, refreshEndpoint } = server;
  const endpoints = {
    authorizationUrl: authorizationEndpoint,
    tokenUrl: tokenEndpoint,
    refreshUrl: refreshEndpoint,
  };
  // Metadata are asked for at other origins only to see who answers.
  const elsewhere = Object.values(endpoints)
    .map(originOf)
    .filter((origin) => origin !== originOf(issuer));
  const places = [...new Set([issuer, ...elsewhere])];
  const outcomes = await Promise.all(places.map((place) => oauth.authServer(place, signal)));
  const outcomeAt = (url: string) => outcomes[places.findIndex((place) => originOf(place) === originOf(url))];

  const metadata = outcomeAt(issuer);
  const told = metadata ? judgeMetadata(server, metadata) : NOTHING;
  const away = Object.entries(endpoints).flatMap(([name, url]) => {
    const outcome = outcomeAt(url);
    return outcome && isAway(outcome) ? [{ name, url, why: sentenceOf(outcome.failure) }] : [];
  });
  // People go to the authorization URL by their browsers, which may reach more than we do.
  const isOurs = ({ name }: { name: string }) => name !== "authorizationUrl";
  const [first] = away.filter(isOurs);
  const fault = first && { cause: "authorization" as const, message: awayText(first), hints: [SPELLING] };
  const others = away.filter((each) => !isOurs(each)).map((each) => `${awayText(each)}.`);
  return {
    faults: [...told.faults, ...(fault ? [fault] : [])],
    notes: [...told.notes, ...others],
  };
}

/** What the metadata of the issuer make of the endpoints. An issuer that nobody gave is a guess, which proves nothing. */
function judgeMetadata(server: AuthServer, outcome: OAuthOutcome<AuthServer>): Probed {
  const { issuer, issuerAssumed } = server;
  if (!outcome.ok) {
    const { failure } = outcome;
    const named = failure.kind === "invalid" ? (failure.namedIssuer ?? null) : null;
    if (named !== null && !issuerAssumed) {
      const message = `The issuer is ${issuer}; the metadata there calls itself ${named}${slashBetween(issuer, named)}.`;
      return {
        faults: [contradiction(message, "Give issuer exactly as the metadata writes it.")],
        notes: [],
      };
    }
    return { faults: [], notes: [`No metadata of ${issuer} could be read: ${sentenceOf(failure)}`] };
  }
  const differing = ENDPOINTS.filter(([, field]) => outcome.value[field] !== server[field]).map(
    ([name, field]) =>
      `${name} is ${server[field]}, and the metadata of ${issuer} names ${outcome.value[field]}`,
  );
  if (differing.length === 0) return NOTHING;
  if (issuerAssumed)
    return { faults: [], notes: differing.map((text) => `${text}: one of them may be wrong.`) };
  const message = `${differing.join("; ")}.`;
  return { faults: [contradiction(message, "Use what the metadata names, or another issuer.")], notes: [] };
}

const ENDPOINTS = [
  ["authorizationUrl", "authorizationEndpoint"],
  ["tokenUrl", "tokenEndpoint"],
] as const;
export const NOTHING: Probed = { faults: [], notes: [] };
const SPELLING = "Check the spelling of its host, and that this machine can reach it.";

function contradiction(message: string, hint: string): Finding {
  return { cause: "authorization", message, hints: [hint] };
}

function slashBetween(given: string, named: string): string {
  if (given === `${named}/`) return " (no slash)";
  return named === `${given}/` ? " (with a slash)" : "";
}

/** Nobody took the connection: no such name, nobody listening, or no TLS. */
function isAway(outcome: OAuthOutcome<AuthServer>): outcome is { ok: false; failure: OAuthFailure } {
  return !outcome.ok && outcome.failure.kind === "transient" && outcome.failure.outcome === "not_sent";
}

const awayText = ({ name, url, why }: { name: string; url: string; why: string }) =>
  `${name} is ${url}, and nobody answers there: ${why.replace(/\.$/, "")}`;

type Listed = Awaited<ReturnType<World["upstream"]["listTools"]>>;

function listWithoutToken(world: World, connection: Connection, signal: AbortSignal): Promise<Listed> {
  const { id, version, target: url, project } = connection;
  const as = `${id}:${version}:stranger`;
  return world.upstream.listTools(
    { url, headers: {}, partition: as, session: as, holder: { project, connection: id, owner: "stranger" } },
    { timeoutMs: PROBE_MS, signal },
  );
}

/** Being turned away without a token is as it should be. */
function judgeTarget(connection: Connection, listed: Listed): Probed {
  if (listed.ok) {
    return { faults: [], notes: ["The server lists its tools without a token, too."] };
  }
  const { failure } = listed;
  const isThere =
    failure.kind === "protocol" || (failure.kind === "http" && DENIALS.includes(failure.status));
  return isThere ? NOTHING : { faults: [explainFailure(connection, {}, failure)], notes: [] };
}

/** 400 is what some answer to a request without a token. */
const DENIALS = [400, 401, 403];

function originOf(url: string): string {
  return URL.parse(url)?.origin ?? url;
}

function sentenceOf(failure: OAuthFailure): string {
  return failure.kind === "refused" ? `it answered with the error ${failure.error}.` : failure.message;
}
