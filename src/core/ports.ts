import type { HeaderValues } from "./connection.ts";
import type { Id, IdPrefix } from "./ids.ts";
import type { Item } from "./items.ts";
import type { Json, JsonObject } from "./json.ts";
import type { AuditEntry } from "./audit.ts";
import type { Entra } from "./machine-identity.ts";
import type { OAuth, SignIn } from "./oauth.ts";
import type { Observer } from "./observe.ts";
import type { ConsentProof } from "./project.ts";
import type { FunctionTool, Sampling, Usage } from "./request.ts";
import type { SecretReferences } from "./secret-references.ts";
import type { Store } from "./storage.ts";
import type { Trace } from "./trace.ts";
import type { WorkloadIssuer } from "./workload.ts";
import type { TokenVerifier } from "./token-verification.ts";

/** Milliseconds since the epoch, and waiting. A test drives both. */
export type Clock = {
  now: () => number;
  /** Resolves after `ms`, or at once when `signal` aborts. Never rejects. */
  sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** The runtime may end what a request has begun so long after its beginning, without a word to who waits for it. Absent: it ends nothing. */
  cutsAfterMs?: number;
};

/** New, unguessable names: prefix and 50 hex characters. `evt` ids sort by the time given. */
export type NewId = <P extends IdPrefix>(prefix: P, at?: number) => Id<P>;

export type Crypto = {
  /** SHA-256 of UTF-8 text as lower-case hex. */
  sha256: (text: string) => string | Promise<string>;
  /** `bytes` random bytes in base64url without padding. */
  randomText: (bytes: number) => string;
};

/**
 * Sealed boxes: AES-256-GCM under the keyring's newest key, which the box names. `aad` binds a box to its place: the
 * same text must be given to open it, so that a row copied elsewhere does not open.
 */
export type Sealer = {
  seal: (plain: string, aad: string) => Promise<Uint8Array>;
  /** Throws `unavailable` when the box is damaged, bound elsewhere, or names a key that the keyring lacks. */
  open: (box: Uint8Array, aad: string) => Promise<string>;
};

/**
 * Proofs that we made something ourselves: HMAC-SHA256 under keys derived from the keyring, the newest signs, all of them
 * are accepted. Nothing is stored.
 */
export type Signer = {
  /** base64url without padding. `purpose` keeps the proofs of one thing from passing for another's. */
  sign: (purpose: string, text: string) => Promise<string>;
  /** In constant time. */
  isOurs: (purpose: string, text: string, mac: string) => Promise<boolean>;
};

/** Structured, without secrets. Event names are facts: `tool_called`, `upstream_unreachable`. */
export type Log = (
  level: "debug" | "info" | "warn" | "error",
  event: string,
  fields?: Record<string, unknown>,
) => void;

/** A tool as an MCP server defines it. `inputSchema` passes through untouched. */
export type ToolDefinition = {
  name: string;
  title: string | null;
  description: string | null;
  inputSchema: JsonObject;
  outputSchema: JsonObject | null;
  annotations: JsonObject;
};

/** Where a call goes and with what. Listings are never shared between two `partition`s, sessions between two `session`s. */
export type UpstreamAccess = {
  /** The MCP endpoint, exactly as configured, query included. */
  url: string;
  /** Credential headers; sent to the url's own origin only. */
  headers: HeaderValues;
  /** Connection id and version, and the user where the credential is a person's. */
  partition: string;
  /** The partition and whom the call is for: what a server keeps in a session belongs to one person. */
  session: string;
  holder: Holder;
};

/** Whose a session is. `connection`: its id, or the partition where there is none; `owner`: whom the call is for. */
export type Holder = { project: string; connection: string; owner: string };

/** Sessions that end together: of a connection, of an owner, or of both. */
export type SessionsOf = { project: string; connection?: string; owner?: string };

/** `trace`: told to the server, as Trace Context and `_meta` (MCP, "Distributed Tracing Conventions"). */
export type CallLimits = {
  timeoutMs: number;
  signal: AbortSignal;
  trace?: Trace | null;
  /** Somebody wants to hear how far it is, and then it may take longer. Nothing of it is asked of servers otherwise. */
  progress?: ProgressWatch | null;
};

/** `longestMs`: a call that tells its progress ends `timeoutMs` after it told it last, and so long after its beginning at most. */
export type ProgressWatch = { longestMs: number; report: (progress: CallProgress) => void };

/** How far a call is: rising numbers, and a server's own words, made to show and bounded. At most four a second. */
export type CallProgress = { progress: number; total: number | null; message: string | null };

/** What a server says in `WWW-Authenticate: Bearer` (RFC 6750, 3; RFC 9728, 5.1). Words of the server's, bounded. */
export type Challenge = {
  error: string | null;
  scope: string | null;
  resourceMetadata: string | null;
  /** What a token must be asked for with (Entra's claims challenge), as it came: JSON in base64, or JSON. */
  claims: string | null;
};

/** Why a server could not be listed or called. `message` is for the caller: no secret, no body of the upstream. */
export type UpstreamFailure =
  | { kind: "protocol"; code: number; message: string }
  | { kind: "http"; status: number; message: string; challenge: Challenge | null } // a Bearer challenge of a 401 or 403
  | { kind: "not_mcp"; message: string }
  | { kind: "authorization"; transient: boolean; message: string } // an authorization server that cannot be used
  | { kind: "claims"; claims: string; message: string } // the person must sign in again, with these claims
  | { kind: "refused"; message: string } // by our own egress rules
  /** Ours could not be opened; nothing was sent. `reference`: it is kept elsewhere, and could not be had. */
  | { kind: "no_credential"; message: string; reference?: string }
  | { kind: "unreachable"; reason: "dns" | "connect" | "tls" | "closed"; message: string }
  | { kind: "timeout"; message: string }
  | { kind: "too_large"; message: string }
  | { kind: "cancelled"; message: string };

export type ListOutcome =
  /** All pages. `ttlMs`: how long the server says the list holds; null when it does not say. */
  { ok: true; tools: ToolDefinition[]; ttlMs: number | null } | { ok: false; failure: UpstreamFailure };

export type ToolResult = { content: Json[]; structuredContent: Json | null; isError: boolean };

/** `sent`: whether the request may have reached the server, so that the tool may have run. */
export type CallOutcome =
  | { ok: true; result: ToolResult }
  | { ok: false; failure: UpstreamFailure; sent: boolean };

/**
 * Remote MCP servers. Negotiates the revision and remembers it per server URL, keeps connections alive, keeps sessions
 * of sessionful servers per partition and makes a new one when the server has forgotten (404).
 *
 * Never throws for what a server does: failures are values. Every call ends within its limits, and at once when
 * `signal` aborts, which is passed on to the server as its revision says.
 */
export type Upstream = {
  listTools: (access: UpstreamAccess, limits: CallLimits) => Promise<ListOutcome>;
  callTool: (
    access: UpstreamAccess,
    call: { name: string; arguments: JsonObject; definition: ToolDefinition | null },
    limits: CallLimits,
  ) => Promise<CallOutcome>;
  /** Another number than before when the server has said since then that its tools changed, as far as it was heard. */
  changeOf: (access: UpstreamAccess) => number;
  /**
   * What they were begun with was changed or taken back: from now on they are used no more. Resolves when their servers were
   * told, within seconds; one in use ends with its use. Of this process only; elsewhere they end when they have been idle.
   */
  endSessions: (of: SessionsOf) => Promise<void>;
  /** Ends sessions politely and closes sockets. */
  close: () => Promise<void>;
};

/** A tool as a model sees it: the name is one that upstreams accept (`[a-zA-Z0-9_-]{1,64}`). */
export type ModelTool = Omit<FunctionTool, "kind">;

export type ModelToolChoice = "auto" | "none" | "required" | { name: string };

/** One call of a tool in the history that a model reads, and what came of it. */
export type ModelExchange = { kind: "call"; callId: string; name: string; arguments: string; output: string };

/**
 * One model turn. `history` is in order; calls of MCP tools come as exchanges under the names in `tools`, calls of the
 * client's functions as `function_call` and `function_call_output` items.
 */
export type ModelRequest = {
  model: string;
  instructions: string | null;
  history: (Item | ModelExchange)[];
  tools: ModelTool[];
  toolChoice: ModelToolChoice;
  parallelToolCalls: boolean;
  sampling: Sampling;
  user: string | null;
  /** Told to the upstream. */
  trace?: Trace | null;
  /** Whether the caller wants the encrypted form of reasoning for itself, and the log probabilities of text. */
  encryptedReasoning?: boolean;
  logprobs?: boolean;
};

/**
 * What a model says, as it comes. Calls are numbered by `call`, in the order in which they began. Reasoning comes one after
 * the other: what is begun is ended before the next. `body`: the item as the upstream said it; `origin`: who can read it.
 */
export type ModelEvent =
  | { kind: "message_started"; phase: string | null }
  | { kind: "reasoning_started"; id: string }
  | { kind: "reasoning_delta"; of: "summary" | "text"; part: number; delta: string }
  | { kind: "reasoning_ended"; body: JsonObject; origin: string }
  /** `logprobs`: of the tokens of this piece, where they were asked for. */
  | { kind: "text"; delta: string; logprobs?: Json[] }
  /** To the text that was said last. */
  | { kind: "annotation"; annotation: JsonObject }
  | { kind: "refusal"; delta: string }
  | { kind: "call_started"; call: number; callId: string; name: string }
  | { kind: "call_arguments"; call: number; delta: string }
  | { kind: "finished"; reason: "stop" | "length" | "content_filter"; usage: Usage };

/** How an upstream is spoken to: the Responses API, or Chat Completions. */
export type ModelApi = "responses" | "chat";

export type Model = {
  /** Ends with exactly one `finished`. Throws `model_failed`, with the upstream's status where it had one. */
  stream: (request: ModelRequest, signal: AbortSignal) => AsyncIterable<ModelEvent>;
};

/** Records of plain calls: queued, written in batches, bounded, drained on stop (DESIGN 13). */
export type AuditQueue = {
  /** Resolves when the record is kept as configured: at once when batched, after the write when `sync`. */
  record: (entry: AuditEntry) => Promise<void>;
  close: () => Promise<void>;
};

/** All that the broker needs of the outside. Made once, in a door. */
export type World = {
  clock: Clock;
  newId: NewId;
  crypto: Crypto;
  sealer: Sealer;
  store: Store;
  audit: AuditQueue;
  upstream: Upstream;
  oauth: OAuth;
  signIn: SignIn;
  signer: Signer;
  /** Tokens of the projects' issuers, which callers bring. */
  callerTokens: TokenVerifier;
  references: SecretReferences;
  /** Null: no Entra identities are configured; the identities are then our own issuer's. */
  entra: Entra | null;
  /** Our own issuer, which has an identity for every project and agent. */
  workload: WorkloadIssuer;
  /** The origin of our links, redirects and metadata; no slash at its end. Never taken from a request. */
  publicUrl: string;
  /** Where our client ID metadata document of a redirect id is, for those that can read it. Null: only https will do. */
  clientDocumentUrl: (redirectId: string) => string | null;
  /** The operator's default proof, and the projects that may use `possession` off loopback. */
  consent: { proof: ConsentProof | null; allowPossession: readonly string[] };
  /** The operator's own. Null: no model upstream is configured. */
  model: Model | null;
  /** One that a project's admin named, under the rules for calls out. */
  modelAt: (at: { baseUrl: string; api: ModelApi; apiKey: string | null }) => Model;
  log: Log;
  observer: Observer;
  /** Whether host and public URL are loopback: the laptop defaults of DESIGN 8 and 16. */
  local: boolean;
};
