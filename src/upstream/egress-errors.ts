import { EgressError } from "./egress.ts";

/** How far a call had come when it failed. */
export type EgressPhase = "look-up" | "connect" | "answer";

/**
 * The one place where faults of sockets, TLS, DNS, HTTP and compression become `EgressError`s. They are told apart by
 * their codes and by how far the call had come; the original stays as `cause`, for the log only.
 */
export function toEgressError(error: unknown, where: { url: URL; phase: EgressPhase }): EgressError {
  if (error instanceof EgressError) return error;
  const { host, protocol } = where.url;
  const code = codeOf(error);
  const cause = { cause: error };
  switch (where.phase) {
    case "look-up":
      return new EgressError("dns", `The name ${where.url.hostname} does not resolve.`, cause);
    case "connect":
      if (code === "UND_ERR_CONNECT_TIMEOUT") {
        return new EgressError("connect", `${host} did not accept a connection in time.`, cause);
      }
      if (TLS_CODE.test(code)) {
        return new EgressError(
          "tls",
          `The TLS certificate or handshake of ${host} is not good (${code}).`,
          cause,
        );
      }
      if (protocol === "https:" && code === "ECONNRESET") {
        return new EgressError("tls", `${host} broke off the TLS handshake.`, cause);
      }
      return new EgressError("connect", `No connection to ${host}${code ? ` (${code})` : ""}.`, cause);
    case "answer":
      if (code === "UND_ERR_HEADERS_OVERFLOW") {
        return new EgressError("too_large", `The headers of the answer of ${host} are too large.`, cause);
      }
      if (code === "UND_ERR_INVALID_ARG" || code === "UND_ERR_NOT_SUPPORTED") {
        return new EgressError("refused", `The request to ${host} has headers that cannot be sent.`, cause);
      }
      if (error instanceof Error && error.name === "HTTPParserError") {
        // Not as the cause itself: it carries a piece of the answer.
        const why = { cause: new Error(error.message) };
        return new EgressError("closed", `${host} answered with something that is not HTTP.`, why);
      }
      if (code.startsWith("Z_") || code.startsWith("ERR_BROTLI") || code.startsWith("ERR__ERROR")) {
        return new EgressError("closed", `The compressed answer of ${host} is damaged.`, cause);
      }
      return new EgressError(
        "closed",
        `${host} closed the connection before the answer was complete.`,
        cause,
      );
  }
}

function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null || !("code" in error)) return "";
  return typeof error.code === "string" ? error.code : "";
}

// OpenSSL's verification results and Node's TLS errors.
const TLS_CODE =
  /^(ERR_TLS|ERR_SSL|ERR_OSSL|EPROTO|CERT_|CRL_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_|HOSTNAME_|INVALID_|PATH_LENGTH|ERROR_IN_)/;
