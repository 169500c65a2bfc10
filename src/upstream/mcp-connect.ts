import {
  Client,
  isJSONRPCRequest,
  ProtocolError,
  SdkError,
  SdkErrorCode,
  SdkHttpError,
  type jsonSchemaValidator,
  type JSONRPCMessage,
  type JSONRPCRequest,
  type Transport,
} from "@modelcontextprotocol/client";
import { isJsonObject, type JsonObject } from "../core/json.ts";
import type { UpstreamAccess } from "../core/ports.ts";
import type { Deadline } from "./mcp-deadline.ts";
import { endSession, exchange, tell, type Outside } from "./mcp-exchange.ts";
import { failed, notMcp, visible, type Failed } from "./mcp-failures.ts";
import { headerValue } from "./mcp-headers.ts";
import { lineHeaders, type ClientInfo, type Line } from "./mcp-line.ts";
import { CONNECT_MS, MAX_ANSWER_BYTES } from "./mcp-limits.ts";
import type { RpcAnswer, RpcNotification, RpcRequest } from "./mcp-message.ts";

/**
 * Finds out how a server wants to be spoken to: the SDK asks for `server/discover`, falls back to `initialize`, and
 * chooses the revision. `known: "legacy"` skips the question. `capabilities` are declared on the way. No tool request has been sent when this fails.
 */
export async function connect(
  outside: Outside,
  {
    access,
    clientInfo,
    capabilities,
    known,
    deadline,
  }: {
    access: UpstreamAccess;
    clientInfo: ClientInfo;
    capabilities: JsonObject;
    known: "legacy" | null;
    deadline: Deadline;
  },
): Promise<{ ok: true; line: Line } | Failed> {
  const channel = createChannel(outside, { access, deadline });
  const client = new Client(clientInfo, {
    capabilities,
    versionNegotiation: { mode: "auto" },
    jsonSchemaValidator: ACCEPTING,
  });
  try {
    // The deadline ends the requests themselves; the SDK's own limit only has to be the longer one.
    const options = { timeout: CONNECT_MS + 1_000 };
    await client.connect(channel.transport, known ? { ...options, prior: { kind: known } } : options);
    const version = client.getNegotiatedProtocolVersion() ?? "";
    if (client.getProtocolEra() === "modern") return { ok: true, line: { era: "modern", version } };
    return { ok: true, line: { era: "legacy", version, session: channel.session() } };
  } catch (error) {
    channel.abandon();
    return { ...(channel.failure() ?? translated(error, access)), sent: false };
  } finally {
    await client.close();
  }
}

/** The SDK's transport over our own requests: one POST each, no standing stream, and every failure kept as it was. */
function createChannel(
  outside: Outside,
  { access, deadline }: { access: UpstreamAccess; deadline: Deadline },
) {
  let session: string | null = null;
  let version: string | null = null;
  let failure: Failed | null = null;
  const line = (): Line => ({ era: "legacy", version: version ?? "", session });

  const transport: Transport = {
    start: async () => {},
    close: async () => transport.onclose?.(),
    setProtocolVersion: (chosen) => (version = chosen),
    send: async (message) => {
      failure = null;
      const found = isJSONRPCRequest(message) ? await ask(message) : await say(message);
      if (!found) return;
      failure = found;
      throw sdkErrorOf(found);
    },
  };

  async function ask(message: JSONRPCRequest): Promise<Failed | null> {
    const request = plain<RpcRequest>(message);
    const answered = await exchange(outside, {
      access,
      headers: version === null ? openingHeaders(request) : lineHeaders(line()),
      message: request,
      deadline,
      maxBytes: MAX_ANSWER_BYTES,
      resumable: false,
      onRequest: () => {},
      onNotification: () => {},
    });
    if (!answered.ok) return answered;
    if (request.method === "initialize") {
      const given = answered.head.get("mcp-session-id");
      if (given !== null && !SESSION_ID.test(given)) return notMcp("The server gave an unusable session id.");
      session = given;
    }
    transport.onmessage?.(replyOf(message.id, answered.answer));
    return null;
  }

  const say = (message: JSONRPCMessage): Promise<Failed | null> =>
    tell(outside, { access, headers: lineHeaders(line()), deadline }, plain<RpcNotification>(message));

  return {
    transport,
    session: () => session,
    failure: () => failure,
    /** A session that was begun, but will not be used. */
    abandon: () => {
      if (session !== null) void endSession(outside, { access, headers: lineHeaders(line()) });
    },
  };
}

/** `server/discover` names its revision in the body already; `initialize` has none yet. */
function openingHeaders({ method, params }: RpcRequest): Record<string, string> {
  const named = isJsonObject(params?._meta) ? params._meta["io.modelcontextprotocol/protocolVersion"] : null;
  if (typeof named !== "string") return {};
  return { "mcp-protocol-version": headerValue(named), "mcp-method": headerValue(method) };
}

function replyOf(id: JSONRPCRequest["id"], answer: RpcAnswer): JSONRPCMessage {
  const reply = { jsonrpc: "2.0" as const, id };
  return answer.kind === "result" ? { ...reply, result: answer.result } : { ...reply, error: answer.error };
}

/** What the SDK tells eras apart by: a status with its body, an unusable answer, or no answer at all. */
function sdkErrorOf({ failure, body }: Failed): Error {
  if (failure.kind === "http") {
    const data = { status: failure.status, ...(body !== null && { text: body }) };
    return new SdkHttpError(SdkErrorCode.ClientHttpNotImplemented, failure.message, data);
  }
  if (failure.kind === "not_mcp") {
    return new SdkError(SdkErrorCode.ClientHttpUnexpectedContent, failure.message);
  }
  return new Error(failure.message);
}

/** What the SDK itself found wrong, after the exchanges went well. */
function translated(error: unknown, access: UpstreamAccess): Failed {
  if (error instanceof ProtocolError) {
    const message = visible(error.message, access);
    return failed({ kind: "protocol", code: error.code, message }, { sent: false });
  }
  return notMcp("The server's handshake is not one of MCP, or it shares no revision with us.");
}

// What the SDK wants sent is a JSON-RPC message; its own type says `unknown` where JSON stands.
const plain = <T extends RpcRequest | RpcNotification>(message: JSONRPCMessage) => message as unknown as T;

// Nothing is validated here; and no schema of a server may ever be compiled.
const ACCEPTING: jsonSchemaValidator = {
  getValidator: () => (input) => ({ valid: true, data: input as never, errorMessage: undefined }),
};

const SESSION_ID = /^[\x21-\x7e]{1,1024}$/;
