import { lookup as systemLookup } from "node:dns/promises";
import type { IncomingHttpHeaders } from "node:http";
import { isIP, type LookupFunction } from "node:net";
import { networkInterfaces } from "node:os";
import { pipeline, Readable, type Duplex } from "node:stream";
import { callbackify } from "node:util";
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import { Agent, buildConnector, Pool, type Dispatcher } from "undici";
import { dispatch, type Inbound } from "./egress-dispatch.node.ts";
import { createEgress, type InboundAnswer, type OutboundRequest } from "./egress-call.ts";
import { toEgressError } from "./egress-errors.ts";
import { addressFault, type EgressRules } from "./egress-rules.ts";
import { EgressError, type Egress } from "./egress.ts";

/** All addresses of a name. Rejects when it has none. */
export type Lookup = (hostname: string) => Promise<{ address: string; family: number }[]>;

/**
 * The way out on Node: kept-alive connections pooled per origin, each to an address that was checked. HTTP/1.1 only:
 * one protocol, whose limits are known.
 *
 * `connectMs` bounds look-up, TCP and TLS together; `connections` the sockets to one origin, further calls wait for
 * one.
 */
export function createNodeEgress(
  options: EgressRules & { connectMs?: number; connections?: number; lookup?: Lookup },
): Egress {
  const { allow, own, connectMs = 10_000, connections = 256 } = options;
  const rules = { allow, own };
  const lookup = options.lookup ?? ((hostname: string) => systemLookup(hostname, { all: true }));
  const agent = new Agent({
    factory: (origin) =>
      new Pool(origin, {
        allowH2: false,
        connections,
        maxHeaderSize: MAX_HEADER_BYTES,
        // Time is bounded per call, by its watch.
        headersTimeout: 0,
        bodyTimeout: 0,
        connect: createConnector({ url: new URL(origin), rules, lookup, connectMs }),
      }),
  });
  return createEgress({
    rules,
    send: (request) => send(agent, request),
    close: () => agent.destroy(),
  });
}

/** Of the head of an answer. */
const MAX_HEADER_BYTES = 32_768;

type ConnectorOptions = { url: URL; rules: EgressRules; lookup: Lookup; connectMs: number };

/**
 * Connects only to checked addresses: the socket itself asks this look-up and gets what passed, so there is no second
 * look-up to differ. TLS still verifies the host's name.
 */
function createConnector({ url, rules, lookup, connectMs }: ConnectorOptions): buildConnector.connector {
  const check = (address: string) => {
    const fault = addressFault(address, { url, rules, local: localAddresses() });
    if (fault !== null) throw new EgressError("refused", fault);
  };
  const resolve = callbackify(async (hostname: string) => {
    const found = await lookup(hostname).catch((error: unknown) => {
      throw toEgressError(error, { url, phase: "look-up" });
    });
    if (found.length === 0) throw new EgressError("dns", `The name ${hostname} has no address.`);
    for (const { address } of found) check(address);
    return found;
  });
  const checkedLookup: LookupFunction = (hostname, { all }, done) => {
    resolve(hostname, (error, found) => {
      if (error) done(error, "");
      else if (all) done(null, found);
      else done(null, found[0]?.address ?? "", found[0]?.family);
    });
  };
  const connect = buildConnector({ allowH2: false, timeout: connectMs, lookup: checkedLookup });
  return (target, done) => {
    const fail = (error: unknown) => done(toEgressError(error, { url, phase: "connect" }), null);
    try {
      // A socket does not look up what is an address already.
      if (isIP(target.hostname)) check(target.hostname);
    } catch (error) {
      fail(error);
      return;
    }
    connect(target, (...[error, socket]) => {
      if (error) fail(error);
      else done(null, socket);
    });
  };
}

function localAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap(
    (addresses) => addresses?.map(({ address }) => address) ?? [],
  );
}

async function send(
  agent: Agent,
  { url, method, headers, body, signal }: OutboundRequest,
): Promise<InboundAnswer> {
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "gzip, deflate, br");
  if (!headers.has("user-agent")) headers.set("user-agent", "consentry");
  const {
    status,
    headers: head,
    body: raw,
  } = await dispatch(agent, {
    origin: url.origin,
    path: `${url.pathname}${url.search}`,
    // The type lists the registered methods; the wire takes any token, and undici refuses what is none.
    method: method as Dispatcher.HttpMethod,
    headers: Object.fromEntries(headers),
    body: typeof body === "string" || body instanceof Uint8Array || !body ? body : Readable.from(body),
    signal,
  });
  const received = { status, headers: readHeaders(head), discard: raw.discard };
  const empty = BODILESS.includes(status) || received.headers.get("content-length") === "0";
  if (method !== "HEAD" && !empty)
    return { ...received, body: decode(raw, { url, headers: received.headers }) };
  void drained(raw);
  return { ...received, body: null };
}

/** What should have no body may have a short one all the same, and its connection is free only behind that. */
async function drained(body: Inbound): Promise<void> {
  const late = setTimeout(body.discard, MAX_DRAIN_MS);
  let bytes = 0;
  try {
    for await (const chunk of body) {
      bytes += chunk.byteLength;
      // Leaving gives the connection up.
      if (bytes > MAX_DRAIN_BYTES) break;
    }
  } catch {
    // The answer was whole with its head.
  } finally {
    clearTimeout(late);
  }
}

const MAX_DRAIN_MS = 1_000;
const MAX_DRAIN_BYTES = 64 * 1024;

function readHeaders(received: IncomingHttpHeaders): Headers {
  const headers = new Headers();
  for (const [name, values] of Object.entries(received)) {
    for (const value of [values ?? []].flat()) headers.append(name, value);
  }
  return headers;
}

/** The body decompressed; one coding at most, so that bombs cannot be stacked. Takes the coding out of the headers. */
function decode(body: Inbound, { url, headers }: { url: URL; headers: Headers }): AsyncIterable<Uint8Array> {
  const coding = headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (coding === "identity") return body;
  const createDecoder = DECODERS[coding];
  if (!createDecoder) {
    throw new EgressError("closed", `${url.host} answered in a content coding that was not asked for.`);
  }
  headers.delete("content-encoding");
  headers.delete("content-length");
  return pipeline(Readable.from(body), createDecoder(), () => {});
}

const BODILESS = [204, 205, 304];
const DECODERS: Record<string, () => Duplex> = {
  gzip: () => createGunzip(),
  "x-gzip": () => createGunzip(),
  deflate: () => createInflate(),
  br: () => createBrotliDecompress(),
};
