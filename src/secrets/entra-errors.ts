import type { MintFailure } from "../core/machine-identity.ts";
import type { EntraFault } from "./entra-answers.ts";
import { EXCHANGE } from "./entra-settings.ts";

/** What was asked for, as a sentence names it. */
export type Asked = {
  /** The part of the settings that is concerned, such as `CONSENTRY_AZURE identities.main`. */
  setting: string;
  audience: string;
  /** Who was asked: the authority's host, or the platform's identity endpoint. */
  server: string;
  /** On behalf of a person, who may be asked for more. */
  isForUser: boolean;
};

/**
 * The one place where what Microsoft Entra says becomes what a caller reads: the number of its error, which setting is concerned, and what
 * to do. Never its own description, which names users, tenants and addresses.
 */
export function failureOf(fault: EntraFault, asked: Asked): MintFailure {
  switch (fault.kind) {
    case "refused":
      return refusal(fault, asked);
    case "unreachable":
      return asked.server === ENDPOINT
        ? failed(`There is no token: no managed identity endpoint answers on this host (${asked.setting}).`)
        : later(`${asked.server} cannot be reached (${asked.setting}).`);
    case "slow":
      return later(`${asked.server} did not answer in time (${asked.setting}).`);
    case "redirected":
      return failed(`${asked.server} answered with a redirect, which is not followed (${asked.setting}).`);
    case "elsewhere":
      return failed(
        `${asked.server} wants tokens to be asked for at another host, which is not done. Check authorityHost of CONSENTRY_AZURE, and that AZURE_REGIONAL_AUTHORITY_NAME is not set.`,
      );
    case "nonsense":
      return later(`${asked.server} gave an answer that holds no token (${asked.setting}).`);
  }
}

/** `message` is a whole sentence. It does not pass by itself. */
export const failed = (message: string): MintFailure => ({
  ok: false,
  transient: false,
  message,
  claims: null,
});
export const later = (message: string): MintFailure => ({
  ok: false,
  transient: true,
  message,
  claims: null,
});

/** How sentences call the platform's identity endpoint. */
export const ENDPOINT = "The managed identity endpoint";

type Refused = Extract<EntraFault, { kind: "refused" }>;

function refusal(fault: Refused, asked: Asked): MintFailure {
  const { code, status, error } = fault;
  const name = code === null ? `${error}, status ${status}` : `AADSTS${code}`;
  const known = code === null ? undefined : SENTENCES.find(({ codes }) => codes.includes(code));
  if (known) {
    const message = `Microsoft Entra gives no token (${name}): ${known.say(asked)}`;
    return { ...failed(message), claims: asked.isForUser ? fault.claims : null };
  }
  if (status === 429 || status === 408 || status >= 500 || error === "temporarily_unavailable")
    return later(`${asked.server} is busy or fails for now (${name}; ${asked.setting}).`);
  if (asked.server === ENDPOINT) return endpointRefusal(name, status, asked);
  const more = code === null ? "" : ` See https://login.microsoftonline.com/error?code=${code}.`;
  const message = `Microsoft Entra gives no token (${name}) to ${asked.setting} for ${asked.audience}.${more}`;
  return { ...failed(message), claims: asked.isForUser ? fault.claims : null };
}

function endpointRefusal(name: string, status: number, { setting }: Asked): MintFailure {
  if (status === 404 || status === 410) return later(`${ENDPOINT} is not ready (${name}; ${setting}).`);
  return failed(
    `${ENDPOINT} gives no token (${name}): this host has no such managed identity. Assign it to the host, and check clientId of ${setting}.`,
  );
}

const SENTENCES: { codes: number[]; say: (asked: Asked) => string }[] = [
  {
    codes: [7000215],
    say: ({ setting }) =>
      `the client secret of ${setting} is wrong. Put the secret's value, not its id, where clientSecret says.`,
  },
  {
    codes: [7000222],
    say: ({ setting }) =>
      `the client secret of ${setting} has ended. Make a new one and put it in its place.`,
  },
  {
    codes: [7000216, 7000218],
    say: ({ setting }) => `the application of ${setting} must prove itself, and what it did was not taken.`,
  },
  {
    codes: [700027, 700030, 5000611],
    say: ({ setting }) =>
      `the certificate of ${setting} is not one of its application's, or has ended. Upload it at the app registration.`,
  },
  {
    codes: [700016],
    say: ({ setting }) =>
      `the application of ${setting} is not in its tenant. Check clientId and tenantId, and that it has a service principal there.`,
  },
  {
    codes: [7000112],
    say: ({ setting }) => `the application of ${setting} is disabled. An administrator can enable it.`,
  },
  {
    codes: [90002, 900023, 900021],
    say: ({ setting, server }) =>
      `${server} knows no such tenant. Check tenantId of ${setting}, and authorityHost.`,
  },
  {
    codes: [500011, 500014, 650052, 650057, 1003031],
    say: ({ setting, audience }) =>
      `the audience ${audience} is no resource of the tenant of ${setting}. Check the connection's audience, and that the resource has a service principal there.`,
  },
  {
    codes: [65001, 65004],
    say: ({ setting, audience }) =>
      `nobody consented to the application of ${setting} calling ${audience} for users. Give it the delegated permission, and an administrator's consent.`,
  },
  {
    codes: [50105, 501051],
    say: ({ setting, audience }) =>
      `${audience} wants its callers assigned, and ${setting} (or the user) is not. Assign an app role of the resource.`,
  },
  {
    codes: [50013, 500131],
    say: ({ setting }) =>
      `the token to exchange was not issued for the application of ${setting}. Clients must ask for tokens of that application.`,
  },
  {
    codes: [500133, 50173, 700082, 70043],
    say: () => "the user's token has ended or was withdrawn. The user must sign in again.",
  },
  {
    codes: [50057, 50034, 50020],
    say: () => "the user's account is disabled, or not of this tenant.",
  },
  {
    codes: [70021, 700211, 700212, 700213],
    say: ({ setting }) =>
      `no federated credential of the application matches who vouches for ${setting}. Check its issuer, its subject (a managed identity's object id) and its audience (${EXCHANGE}).`,
  },
  {
    codes: [700024],
    say: ({ setting }) =>
      `what vouches for ${setting} has ended or is not valid yet. Check the clock and the token file.`,
  },
  {
    codes: [700222],
    say: ({ setting }) =>
      `${setting} is an application and cannot vouch for another one; only a managed identity or another issuer can.`,
  },
  {
    codes: [82001],
    say: ({ setting }) =>
      `the blueprint of ${setting} gets no token for itself. Check that shared and own name agent identities and not the blueprint.`,
  },
  {
    codes: [53000, 53001, 53002, 53003, 53004, 530003, 530004, 530035],
    say: ({ setting, audience }) =>
      `a conditional access policy does not let ${setting} (or the user) reach ${audience}. An administrator of the tenant can see which.`,
  },
  {
    codes: [50072, 50074, 50076, 50078, 50079, 50158],
    say: ({ audience }) =>
      `${audience} wants more of the user's sign-in, such as a second factor. The client must sign the user in again with these claims.`,
  },
];
