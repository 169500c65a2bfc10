import type { HeldSecrets } from "./client-secrets.ts";
import type { Fault } from "./errors.ts";
import { isJsonObject, type JsonObject } from "./json.ts";
import type { NameOf, OAuthDraft } from "./oauth-app-rules.ts";
import type { ClientAuth } from "./oauth.ts";
import { type CheckReference, refsOf, type SecretValue } from "./secret-references.ts";

/** What becomes of the box: nothing in it, what was in it, or something new. */
export type ClientBox = { kind: "none" } | { kind: "keep" } | { kind: "client"; client: HeldSecrets };

/** The client as it was, whose secret or key is in the box if its way of proving itself has one. */
export type HeldClient = { clientId: string | null; clientAuth: ClientAuth | null };

/**
 * How the client proves itself (RFC 6749, 2.3; RFC 7523). Left out: `basic` with a secret, `private_key_jwt` with a key,
 * else `none`. `whole`: the draft over what was; `given`: the draft alone, for secrets are never merged.
 */
export function readClient(
  whole: OAuthDraft,
  context: {
    given: OAuthDraft;
    held: HeldClient | null;
    nameOf: NameOf;
    checkReference: CheckReference;
  },
): { auth: ClientAuth; box: ClientBox; secretName: string; faults: Fault[] } {
  const { given, held, nameOf, checkReference } = context;
  const clientSecret = given.clientSecret ?? null;
  const privateKey = given.privateKey ?? null;
  const auth = authOf(whole, context);
  const needed = SECRET_OF[auth];
  const faults = clientIdFaults(whole.clientId, nameOf("clientId"));
  const unwanted = (["clientSecret", "privateKey"] as const).filter(
    (field) => field !== needed && given[field] != null,
  );
  faults.push(
    ...unwanted.map((field) => ({ param: nameOf(field), message: `must be absent with clientAuth ${auth}` })),
  );
  const secretName = nameOf(needed ?? "clientSecret");
  if (needed === null) return { auth, box: { kind: "none" }, secretName, faults };
  if (given[needed] != null) {
    faults.push(
      ...(needed === "clientSecret"
        ? secretFaults(clientSecret ?? "", { param: secretName, checkReference })
        : keyFaults(privateKey ?? {}, secretName)),
    );
    return { auth, box: { kind: "client", client: { clientSecret, privateKey } }, secretName, faults };
  }
  if (held?.clientAuth != null && SECRET_OF[held.clientAuth] === needed) {
    return { auth, box: { kind: "keep" }, secretName, faults };
  }
  faults.push({ param: secretName, message: `is required with clientAuth ${auth}` });
  return { auth, box: { kind: "none" }, secretName, faults };
}

const SECRET_OF: Record<ClientAuth, "clientSecret" | "privateKey" | null> = {
  basic: "clientSecret",
  post: "clientSecret",
  private_key_jwt: "privateKey",
  none: null,
};

function authOf(
  whole: OAuthDraft,
  { given, held }: { given: OAuthDraft; held: HeldClient | null },
): ClientAuth {
  if (given.clientAuth != null) return given.clientAuth;
  const brought =
    given.clientSecret != null ? "clientSecret" : given.privateKey != null ? "privateKey" : null;
  const before = whole.clientAuth ?? held?.clientAuth ?? null;
  if (before !== null && (brought === null || SECRET_OF[before] === brought)) return before;
  if (brought === null) return "none";
  return brought === "clientSecret" ? "basic" : "private_key_jwt";
}

/** VSCHAR (RFC 6749, appendix A). */
function clientIdFaults(clientId: string | null | undefined, param: string): Fault[] {
  if (clientId == null || /^[\x20-\x7e]{1,1024}$/.test(clientId)) return [];
  return [{ param, message: "must have 1 to 1024 visible ASCII characters" }];
}

function secretFaults(
  secret: SecretValue,
  { param, checkReference }: { param: string; checkReference: CheckReference },
): Fault[] {
  if (typeof secret === "string") {
    const message = clientSecretFault(secret);
    return message === null ? [] : [{ param, message }];
  }
  const message = checkReference(secret.ref);
  return [
    ...(message === null ? [] : [{ param: `${param}.ref`, message }]),
    ...(secret.prefix === "" ? [] : [{ param: `${param}.prefix`, message: "must be absent" }]),
  ];
}

/** What is wrong with a client's secret, to be said after its name. */
export function clientSecretFault(secret: string): string | null {
  return /^[\x20-\x7e]{1,8192}$/.test(secret) ? null : "must have 1 to 8192 visible ASCII characters";
}

function keyFaults(key: JsonObject, param: string): Fault[] {
  const { kty, d } = key;
  if (JSON.stringify(key).length > MAX_KEY_CHARS) {
    return [{ param, message: `must have at most ${MAX_KEY_CHARS} characters` }];
  }
  if (isJsonObject(key) && (kty === "RSA" || kty === "EC") && typeof d === "string") return [];
  return [{ param, message: "must be a private JWK of type RSA or EC" }];
}

const MAX_KEY_CHARS = 16 * 1024;

type References = { references?: Record<string, string> };

/** Where the client's secret is kept, if that is elsewhere. */
export function referencesOf(box: ClientBox, before: References | null): References {
  switch (box.kind) {
    case "none":
      return {};
    case "keep":
      return before?.references ? { references: before.references } : {};
    case "client": {
      const references = refsOf({ clientSecret: box.client.clientSecret ?? "" });
      return Object.keys(references).length > 0 ? { references } : {};
    }
  }
}
