import { type HttpServer, startHttpServer } from "./http-server.ts";

/** A span as a collector is told of it, attributes as a plain object. */
export type SeenSpan = {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId: string | undefined;
  kind: number;
  failed: boolean;
  /** Nanoseconds since the epoch. */
  endedAt: bigint;
  attributes: Record<string, unknown>;
};

export type Collector = {
  url: string;
  requests: HttpServer["requests"];
  spans: () => SeenSpan[];
  /** Attributes of the service, as in the first request. */
  resource: () => Record<string, unknown>;
  stop: () => Promise<void>;
};

type Attribute = { key: string; value: { stringValue?: string; intValue?: number } };
type Wire = {
  resourceSpans: {
    resource: { attributes: Attribute[] };
    scopeSpans: {
      spans: {
        name: string;
        traceId: string;
        spanId: string;
        parentSpanId?: string;
        kind: number;
        status: { code: number };
        endTimeUnixNano: string;
        attributes: Attribute[];
      }[];
    }[];
  }[];
};

/** What OTLP over HTTP is sent to, as JSON. `status` answers; `hangs` never does. */
export async function startCollector(options: { status?: number; hangs?: boolean } = {}): Promise<Collector> {
  const server = await startHttpServer((_, response) => {
    if (options.hangs) return;
    response.writeHead(options.status ?? 200, { "content-type": "application/json" }).end("{}");
  });
  const received = () =>
    server.requests
      .filter(({ path }) => path === "/v1/traces")
      .flatMap(({ body }) => (JSON.parse(body) as Wire).resourceSpans);
  return {
    url: server.url,
    requests: server.requests,
    spans: () =>
      received()
        .flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
        .map(({ name, traceId, spanId, parentSpanId, kind, status, endTimeUnixNano, attributes }) => ({
          name,
          traceId,
          spanId,
          parentSpanId: parentSpanId === "" ? undefined : parentSpanId,
          kind,
          failed: status.code === ERROR,
          endedAt: BigInt(endTimeUnixNano),
          attributes: plain(attributes),
        })),
    resource: () => plain(received()[0]?.resource.attributes ?? []),
    stop: server.stop,
  };
}

const ERROR = 2;

function plain(attributes: Attribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue]));
}
