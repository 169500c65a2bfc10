import { isUrl } from "./config-texts.ts";

/** Where spans go, and what the broker is called there. */
export type TraceSettings = {
  /** The whole URL, as in `http://collector:4318/v1/traces`. */
  url: string;
  serviceName: string;
  /** What else is said of this process (`OTEL_RESOURCE_ATTRIBUTES`). */
  attributes: Record<string, string>;
  sampling: { kind: Sampling; ratio: number; followsParent: boolean };
};
type Sampling = "always_on" | "always_off" | "traceidratio";

/**
 * OpenTelemetry's own variables, by the names that everybody gives them. Traces are on where an endpoint is named. What is
 * not read here (headers, time-out, compression, certificates) the exporter reads itself.
 */
export function parseTraces(env: Record<string, string | undefined>): {
  traces: TraceSettings | null;
  faults: { name: string; message: string }[];
} {
  const given = (name: string) => env[name]?.trim() || null;
  const [all, own] = [given(ENDPOINT), given(TRACES_ENDPOINT)];
  const url = own ?? (all && `${all.replace(/\/$/, "")}/v1/traces`);
  const isOff = given("OTEL_SDK_DISABLED") === "true" || given("OTEL_TRACES_EXPORTER") === "none";
  if (url === null || isOff) return { traces: null, faults: [] };
  const faults: { name: string; message: string }[] = [];
  if (!isUrl(url, "http:", "https:")) {
    const message = "must be an http(s) URL, such as http://collector:4318";
    faults.push({ name: own === null ? ENDPOINT : TRACES_ENDPOINT, message });
  }
  for (const name of ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
    if (given(name) === "grpc")
      faults.push({ name, message: 'must not be "grpc": spans are sent as JSON over HTTP' });
  }
  const sampling = samplingOf(given("OTEL_TRACES_SAMPLER"), given("OTEL_TRACES_SAMPLER_ARG"));
  if (!sampling) {
    const message = `must be ${KINDS.join(", ")}, or parentbased_ and one of them, and the argument a number from 0 to 1`;
    faults.push({ name: "OTEL_TRACES_SAMPLER", message });
  }
  const attributes = attributesOf(given(ATTRIBUTES) ?? "");
  if (!attributes) {
    const message =
      "must be name=value pairs with commas between them; commas, equals signs and what is not ASCII are percent-encoded";
    faults.push({ name: ATTRIBUTES, message });
  }
  if (!sampling || !attributes || faults.length > 0) return { traces: null, faults };
  const serviceName = given("OTEL_SERVICE_NAME") ?? (attributes["service.name"] || "consentry");
  return { traces: { url, serviceName, attributes, sampling }, faults };
}

/**
 * OpenTelemetry, "Resource SDK", "Specifying resource information via an environment variable": W3C Baggage without properties,
 * and with one fault all of it counts for nothing. Null: it has one.
 */
function attributesOf(text: string): Record<string, string> | null {
  const attributes: [string, string][] = [];
  // Of the last one the comma may be there.
  for (const pair of text.replace(/,\s*$/, "").split(",")) {
    if (text === "") break;
    const at = pair.indexOf("=");
    const name = decoded(pair.slice(0, at));
    const value = decoded(pair.slice(at + 1));
    if (at < 0 || name === null || name === "" || value === null) return null;
    attributes.push([name, value]);
  }
  return attributes.length > MAX_ATTRIBUTES ? null : Object.fromEntries(attributes);
}

/** Null: it is not what a pair may hold (baggage-octet, RFC 3986 2.1). */
function decoded(text: string): string | null {
  const octets = text.trim();
  if (!/^[\x21\x23-\x2b\x2d-\x3a\x3c\x3e-\x5b\x5d-\x7e]*$/.test(octets)) return null;
  try {
    return decodeURIComponent(octets);
  } catch {
    return null;
  }
}

const MAX_ATTRIBUTES = 128;
const ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES";

function samplingOf(sampler: string | null, argument: string | null): TraceSettings["sampling"] | null {
  const name = sampler ?? "parentbased_always_on";
  const followsParent = name.startsWith("parentbased_");
  const kind = KINDS.find((known) => known === name.replace("parentbased_", ""));
  const ratio = Number(argument ?? 1);
  if (!kind || !(ratio >= 0 && ratio <= 1)) return null;
  return { kind, ratio, followsParent };
}

const ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const KINDS: Sampling[] = ["always_on", "always_off", "traceidratio"];
