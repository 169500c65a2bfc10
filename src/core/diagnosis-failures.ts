import type { Connection, HeaderValues } from "./connection.ts";
import { explainDenial } from "./diagnosis-denials.ts";
import type { UpstreamFailure } from "./ports.ts";

/** The likeliest reason why a connection does not work, or `none`. */
export type Cause =
  | "none"
  | "key_missing"
  | "key_rejected"
  | "key_format"
  | "forbidden"
  | "token_rejected"
  | "role_missing"
  | "not_mcp"
  | "unreachable"
  | "tls"
  | "timeout"
  | "too_large"
  | "egress_refused"
  | "credentials_sealed"
  | "secret_unavailable"
  | "authorization"
  | "server_error"
  | "busy"
  | "protocol_error"
  | "no_tools"
  | "all_hidden"
  | "no_approver";

export type Finding = {
  cause: Cause;
  /** What happened. Never holds a secret or a body of the server. */
  message: string;
  /** What to do about it, likeliest first. */
  hints: string[];
};

/** Why a server could not be listed, and what to try. */
export function explainFailure(
  connection: Connection,
  headers: HeaderValues,
  failure: UpstreamFailure,
): Finding {
  const { host } = new URL(connection.target);
  switch (failure.kind) {
    case "http":
      return explainStatus(connection, headers, failure, host);
    case "protocol": {
      const message = `${host} answered with MCP error ${failure.code}: ${failure.message}`;
      return { cause: "protocol_error", message, hints: ["The server itself refused to list its tools."] };
    }
    case "not_mcp": {
      const message = `${host} answered, but not as an MCP server: ${failure.message}`;
      return { cause: "not_mcp", message, hints: pathHints(connection) };
    }
    case "refused": {
      const message = `Our own egress rules refuse this target: ${failure.message}`;
      return {
        cause: "egress_refused",
        message,
        hints: ["An operator can allow it with CONSENTRY_EGRESS_ALLOW."],
      };
    }
    case "authorization": {
      const hints = failure.transient ? ["Ask again later: this passes."] : [];
      return { cause: "authorization", message: failure.message, hints };
    }
    case "claims": {
      const hints = ["Sign in again as the challenge asks, and call with the token that comes of it."];
      return { cause: "authorization", message: failure.message, hints };
    }
    case "no_credential": {
      if (failure.reference !== undefined) {
        const message = `Nothing was sent: ${failure.message}.`;
        return { cause: "secret_unavailable", message, hints: placeHints(failure.reference) };
      }
      const hints = ["Write the credentials anew, or give the broker the keyring that sealed them."];
      return { cause: "credentials_sealed", message: `Nothing was sent: ${failure.message}.`, hints };
    }
    case "unreachable":
      return explainUnreachable(host, failure.reason, failure.message);
    case "timeout": {
      const message = `${host} did not answer in time: ${failure.message}`;
      return { cause: "timeout", message, hints: ["Raise timeoutMs if the server is slow to answer."] };
    }
    case "too_large": {
      const message = `${host} answered with more than we read: ${failure.message}`;
      return {
        cause: "too_large",
        message,
        hints: ["Offer fewer tools, or shorter definitions, to this key."],
      };
    }
    case "cancelled":
      return { cause: "timeout", message: "The check was cancelled before the server answered.", hints: [] };
  }
}

/** What to look at where a secret is kept. */
function placeHints(ref: string): string[] {
  const lent = "An operator lends it with CONSENTRY_SECRET_SOURCES.";
  if (!ref.startsWith("keyvault:")) return ["Check that it is there, and that the broker may read it.", lent];
  return [
    "Check that the secret is there and enabled, and that its vault can be reached from the broker.",
    "The broker's identity needs the role Key Vault Secrets User on the vault.",
    lent,
  ];
}

function explainUnreachable(
  host: string,
  reason: "dns" | "connect" | "tls" | "closed",
  detail: string,
): Finding {
  switch (reason) {
    case "dns": {
      const hints = [`Check the spelling of ${host}, and that this machine can resolve it.`];
      return { cause: "unreachable", message: `The name ${host} does not resolve: ${detail}`, hints };
    }
    case "connect": {
      const hints = ["Check host and port, that the server runs, and the firewalls between."];
      return { cause: "unreachable", message: `${host} takes no connection: ${detail}`, hints };
    }
    case "tls": {
      const hints = [
        "Check that the certificate is valid for this name and signed by an authority that this machine trusts.",
        "If the server speaks plain http, write http:// and allow it in CONSENTRY_EGRESS_ALLOW.",
      ];
      return { cause: "tls", message: `No secure connection to ${host}: ${detail}`, hints };
    }
    case "closed": {
      const hints = [
        "Something between here and the server may have ended the connection: a proxy or a time limit.",
      ];
      return { cause: "unreachable", message: `${host} closed the connection: ${detail}`, hints };
    }
  }
}

function explainStatus(
  connection: Connection,
  headers: HeaderValues,
  { status, challenge }: UpstreamFailure & { kind: "http" },
  host: string,
): Finding {
  const denial = explainDenial(connection, status, host);
  if (denial) return denial;
  const slips = formatSlips(headers);
  const isOAuth =
    connection.auth.kind !== "oauth" && challenge !== null && challenge.resourceMetadata !== null;
  const oauth = isOAuth ? [USE_OAUTH] : [];
  if (status === 401 && connection.auth.kind === "none") {
    const hints = [
      ...oauth,
      "Use authType CustomKeys with the header that the server's documentation names.",
    ];
    return {
      cause: "key_missing",
      message: `${host} wants credentials (401); this connection sends none.`,
      hints,
    };
  }
  if ((status === 400 || status === 401 || status === 403) && slips.length > 0) {
    const message = `${host} refused the request (${status}), and the credentials do not have the usual form.`;
    return { cause: "key_format", message, hints: [...slips, ...oauth] };
  }
  if (status === 401) {
    const names = Object.keys(headers).join(", ");
    const hints = [
      ...oauth,
      "The key may be wrong, expired or revoked: make a new one and PATCH credentials.keys.",
      `The server may read another header than ${names}.`,
    ];
    return { cause: "key_rejected", message: `${host} does not accept the credentials (401).`, hints };
  }
  if (status === 403) {
    const hints = ["Give the key the scopes or permissions that the server asks for, or use another key."];
    return { cause: "forbidden", message: `${host} knows who calls and does not allow it (403).`, hints };
  }
  if (status === 429) {
    return { cause: "busy", message: `${host} asks us to wait (429).`, hints: ["Try again in a minute."] };
  }
  if (status >= 500) {
    const hints = ["The fault is at the server: see its log, or try again later."];
    return { cause: "server_error", message: `${host} failed (${status}).`, hints };
  }
  const message = `${host} has no MCP endpoint at this path (${status}).`;
  return { cause: "not_mcp", message, hints: pathHints(connection) };
}

/** Its challenge names where its metadata are (RFC 9728, 5.1), and from there everything is found. */
const USE_OAUTH = "This server asks for OAuth: use authType OAuth2, nothing else is needed.";

/** For `OAuth2` on a server that is open and names no authorization server. */
export const IS_OPEN =
  "It answers without a token: use authType None, or give authorizationUrl, tokenUrl and clientId.";

function pathHints({ target }: Connection): string[] {
  const path = new URL(target).pathname;
  const wanted = path.endsWith("/mcp") ? [] : [`The path is ${path}; MCP endpoints often end in /mcp.`];
  return [
    ...wanted,
    "The target must be the Streamable HTTP endpoint itself, not a web page, a REST API or an old SSE address.",
  ];
}

/** Slips of the pen that can be seen in the form of a value. */
function formatSlips(headers: HeaderValues): string[] {
  return Object.entries(headers).flatMap(([name, value]) => {
    const slips: string[] = [];
    const isAuthorization = name.toLowerCase() === "authorization";
    if (isAuthorization && !/^\S+ +\S/.test(value)) {
      slips.push(`${name} has no scheme: most servers want "Bearer " before the token.`);
    }
    if (isAuthorization && /^bearer\s+(?:bearer|token|basic)\s/i.test(value)) {
      slips.push(`${name} names two schemes, one after the other.`);
    }
    if (/^(?:env|file|keyvault):\S/.test(value)) {
      slips.push(
        `${name} looks like a place where a secret is kept; write {"ref": "…"} to have it looked up there.`,
      );
    }
    if (!isAuthorization && /^bearer\s/i.test(value)) {
      slips.push(`${name} begins with "Bearer": that usually belongs into Authorization.`);
    }
    if (/^(?:\S+ )?["'<{$]|["'>}]$/.test(value)) {
      slips.push(
        `${name} begins or ends with a quote, bracket or "$": a placeholder may not have been filled in.`,
      );
    }
    return slips;
  });
}
