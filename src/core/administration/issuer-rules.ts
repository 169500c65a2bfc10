import type { Fault } from "../errors.ts";
import {
  DEFAULT_AUTHORITY,
  entraTenantOf,
  type EntraIssuer,
  type IssuerExchange,
  isOurOwn,
  issuersNamed,
  type OidcIssuer,
  type TokenIssuer,
} from "../issuers.ts";
import { issuerFaults } from "../oauth-app-rules.ts";
import type { SignInSettings } from "../project.ts";
import { type CheckTarget, returnUrlFaults, urlFaults } from "../url-rules.ts";
import { ADDED_PARAMS } from "./return-urls.ts";
import { REALM_NAME, REALMS } from "./sign-in-rules.ts";

/** An issuer as an admin writes it. The exchange's `clientSecret` undefined: as before; null: a public client. */
export type IssuerChange = EntraIssuer | (Omit<OidcIssuer, "exchange"> & { exchange: ExchangeChange | null });

export type ExchangeChange = IssuerExchange & { clientSecret?: string | null | undefined };

/** What issuers are judged by beside themselves. */
export type IssuerRules = { checkTarget: CheckTarget; publicUrl: string; local: boolean };

/** The entry without what is secret. */
export function issuerEntry(change: IssuerChange): TokenIssuer {
  switch (change.type) {
    case "entra":
      return { ...change, tenants: change.tenants.map((tenant) => tenant.toLowerCase()) };
    case "oidc": {
      if (change.exchange === null) return { ...change, exchange: null };
      const { clientId, tokenEndpoint, subjectTokenType } = change.exchange;
      return { ...change, exchange: { clientId, tokenEndpoint, subjectTokenType } };
    }
  }
}

/** Every fault of the entries, under `issuers[n]`. */
export function issuersFaults(changes: readonly IssuerChange[], rules: IssuerRules): Fault[] {
  if (changes.length > MAX_ISSUERS)
    return [{ param: "issuers", message: `must have at most ${MAX_ISSUERS} entries` }];
  const entries = changes.map(issuerEntry);
  return [
    ...changes.flatMap((change, at) => under(at, entryFaults(change, rules))),
    ...repeated(entries.map(({ name }) => [name])).map((at) => ({
      param: `issuers[${at}].name`,
      message: "is the name of another entry, too",
    })),
    ...repeated(entries.map(placesOf)).map((at) => ({
      param: `issuers[${at}].${entries[at]?.type === "oidc" ? "issuer" : "tenants"}`,
      message: "is in another entry, too, or twice",
    })),
  ];
}

/** A tenant belongs to one entry, whatever the authority. */
const placesOf = (entry: TokenIssuer): string[] =>
  entry.type === "entra" ? [...issuersNamed(entry), ...entry.tenants] : issuersNamed(entry);

/** One issuer has one name, here and in `signIn`: else its sign-ins and its tokens would be users of two realms. */
export function signInMeetsIssuers(issuers: readonly TokenIssuer[], signIn: SignInSettings | null): Fault[] {
  if (signIn === null) return [];
  return issuers.flatMap((entry, at) => {
    const isSameName = entry.name === signIn.name;
    const isSameIssuer = issuersNamed(entry).includes(signIn.issuer);
    if (isSameName === isSameIssuer) return [];
    const message = isSameName
      ? `is the name of signIn, whose issuer is another one (${signIn.issuer})`
      : `must be ${signIn.name}, the name that signIn has for this issuer`;
    return [{ param: `issuers[${at}].name`, message }];
  });
}

function entryFaults(change: IssuerChange, rules: IssuerRules): Fault[] {
  return [
    ...commonFaults(change, rules),
    ...(change.type === "entra" ? entraFaults(change, rules) : oidcFaults(change, rules)),
  ];
}

function commonFaults(change: IssuerChange, { local }: IssuerRules): Fault[] {
  const { name, audiences, clients, clockSkewSeconds, roles } = change;
  const faults: Fault[] = [];
  if (!REALM_NAME.test(name) || REALMS.has(name)) {
    const message = "must have 1 to 32 lower-case letters, digits or '-', and not be app, dev or entra";
    faults.push({ param: "name", message });
  }
  faults.push(...textFaults(audiences, { param: "audiences", most: MAX_AUDIENCES }));
  if (clients !== null) faults.push(...textFaults(clients, { param: "clients", most: MAX_CLIENTS }));
  if (!Number.isInteger(clockSkewSeconds) || clockSkewSeconds < 0 || clockSkewSeconds > MAX_SKEW_SECONDS) {
    const message = `must be a whole number from 0 to ${MAX_SKEW_SECONDS}`;
    faults.push({ param: "clockSkewSeconds", message });
  }
  if (roles.length > MAX_RULES)
    faults.push({ param: "roles", message: `must have at most ${MAX_RULES} entries` });
  for (const [at, rule] of roles.slice(0, MAX_RULES).entries()) {
    for (const param of ["claim", "value"] as const) {
      if (!isText(rule[param])) faults.push({ param: `roles[${at}].${param}`, message: TEXT });
    }
    if (rule.roles.length + rule.rights.length === 0)
      faults.push({
        param: `roles[${at}].roles`,
        message: "must name at least one role, or rights one right",
      });
  }
  // A13: browsers are sent to exactly these, so they must be what they seem.
  for (const param of ["confirmUrl", "doneUrl"] as const) {
    const given = change[param];
    if (given !== null) faults.push(...returnUrlFaults(given, { local, param, ours: ADDED_PARAMS[param] }));
  }
  return faults;
}

function entraFaults({ tenants, authority }: EntraIssuer, { checkTarget, publicUrl }: IssuerRules): Fault[] {
  const faults: Fault[] = [];
  if (tenants.length === 0 || tenants.length > MAX_TENANTS)
    faults.push({ param: "tenants", message: `must have 1 to ${MAX_TENANTS} entries` });
  for (const [at, tenant] of tenants.slice(0, MAX_TENANTS).entries()) {
    if (!GUID.test(tenant))
      faults.push({ param: `tenants[${at}]`, message: "must be a tenant's id (a GUID), not a name of it" });
  }
  const param = "authority";
  const wrong = urlFaults(authority, { param, checkTarget });
  if (wrong.length > 0) return [...faults, ...wrong];
  if (URL.parse(authority)?.origin !== authority)
    return [...faults, { param, message: `must be an origin: ${DEFAULT_AUTHORITY}` }];
  return isOurOwn(authority, publicUrl) ? [...faults, { param, message: OURS }] : faults;
}

function oidcFaults(change: IssuerChange & { type: "oidc" }, rules: IssuerRules): Fault[] {
  const { issuer, algorithms, delegated, exchange } = change;
  const faults = issuerFaults(issuer, { param: "issuer", checkTarget: rules.checkTarget });
  if (faults.length === 0 && isOurOwn(issuer, rules.publicUrl))
    faults.push({ param: "issuer", message: OURS });
  // Its sign-ins are users of the realm `entra`, and its tokens must be, too.
  if (entraTenantOf(issuer, []) !== null || issuer.startsWith("https://sts.windows.net/"))
    faults.push({ param: "issuer", message: 'is Microsoft Entra: use "type": "entra" with the tenant' });
  if (algorithms.length === 0) faults.push({ param: "algorithms", message: "must have at least one entry" });
  if (delegated && !isText(delegated.claim)) faults.push({ param: "delegated.claim", message: TEXT });
  if (delegated && delegated.value !== null && !isText(delegated.value))
    faults.push({ param: "delegated.value", message: TEXT });
  return exchange ? [...faults, ...exchangeFaults(exchange, issuer, rules)] : faults;
}

/**
 * People's own tokens are sent to the token endpoint, so it is their issuer's: the one that its metadata name, or one at its
 * own origin. Nobody who writes settings has them sent anywhere else.
 */
function exchangeFaults(exchange: ExchangeChange, issuer: string, { checkTarget }: IssuerRules): Fault[] {
  const { clientId, clientSecret, tokenEndpoint } = exchange;
  const faults: Fault[] = [];
  if (!/^[\x20-\x7e]{1,1024}$/.test(clientId))
    faults.push({ param: "exchange.clientId", message: "must have 1 to 1024 visible ASCII characters" });
  if (clientSecret != null && !/^[\x20-\x7e]{1,8192}$/.test(clientSecret))
    faults.push({ param: "exchange.clientSecret", message: "must have 1 to 8192 visible ASCII characters" });
  if (tokenEndpoint === null) return faults;
  const param = "exchange.tokenEndpoint";
  faults.push(...urlFaults(tokenEndpoint, { param, checkTarget }));
  if (URL.parse(tokenEndpoint)?.origin !== URL.parse(issuer)?.origin) {
    const message =
      "must be at the issuer's own origin; leave it out, and the issuer's metadata say where it is";
    faults.push({ param, message });
  }
  return faults;
}

function textFaults(texts: readonly string[], { param, most }: { param: string; most: number }): Fault[] {
  if (texts.length === 0 || texts.length > most)
    return [{ param, message: `must have 1 to ${most} entries` }];
  return texts.flatMap((text, at) => (isText(text) ? [] : [{ param: `${param}[${at}]`, message: TEXT }]));
}

/** The places of entries that have a text which is in an entry before, or twice in their own. */
function repeated(texts: string[][]): number[] {
  const seen = new Set<string>();
  return texts.flatMap((own, at) => {
    const isRepeated = own.some((text) => seen.has(text)) || new Set(own).size < own.length;
    for (const text of own) seen.add(text);
    return isRepeated ? [at] : [];
  });
}

const under = (at: number, faults: Fault[]): Fault[] =>
  faults.map(({ param, message }) => ({ param: `issuers[${at}].${param}`, message }));

const isText = (text: string) => /^[^\p{Cc}\p{Cs}]{1,256}$/u.test(text);
const TEXT = "must have 1 to 256 characters";
const OURS = "is this broker itself, whose tokens make nobody a caller";
const GUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const MAX_ISSUERS = 20;
const MAX_AUDIENCES = 20;
const MAX_CLIENTS = 100;
const MAX_TENANTS = 100;
const MAX_RULES = 100;
const MAX_SKEW_SECONDS = 300;
