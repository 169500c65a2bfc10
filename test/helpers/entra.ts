import { inspect } from "node:util";
import type { Entra, Minted, UserToken } from "../../src/core/machine-identity.ts";
import { createEntra } from "../../src/secrets/entra.ts";
import type { EntraSettings } from "../../src/secrets/entra-settings.ts";
import { createReadSecret } from "../../src/secrets/operator-secrets.node.ts";
import { type AzureAuthority, startAzureAuthority } from "./azure-authority.ts";

export const TENANT = "11111111-1111-4111-8111-111111111111";
export const OTHER_TENANT = "99999999-9999-4999-8999-999999999999";
export const APP = "22222222-2222-4222-8222-222222222222";
export const APP_OID = "22222222-0000-4000-8000-000000000000";
export const SECRET = "canary~secret-of-the-app";
export const AUDIENCE = "api://contoso";

export type TestEntra = {
  authority: AzureAuthority;
  /** Another one, over the same authority. */
  make: (settings: Partial<EntraSettings>, env?: Record<string, string>) => Entra;
  /** A user's token for the application, as Entra gives one to a client of it. */
  userToken: (claims?: { tenant?: string; aud?: string; expiresAt?: number }) => Promise<UserToken>;
  stop: () => Promise<void>;
};

/** The authority with one application, APP, that has a secret. */
export async function startTestEntra(): Promise<TestEntra> {
  const authority = await startAzureAuthority();
  authority.trust();
  authority.apps.set(APP, { oid: APP_OID, secret: SECRET });
  return {
    authority,
    make: (settings, env = { APP_SECRET: SECRET }) => {
      const whole = { authorityHost: authority.url, identities: {}, projects: {}, targets: [], ...settings };
      return createEntra({ settings: whole, read: createReadSecret(env), vouch, clock });
    },
    userToken: async ({ tenant = TENANT, aud = APP, expiresAt = Date.now() + 3_600_000 } = {}) => ({
      token: await authority.sign(tenant, { aud, oid: "ann", sub: "ann-at-app", scp: "access_as_user" }),
      issuer: "entra",
      tenant,
      expiresAt,
    }),
    stop: authority.stop,
  };
}

/** The word of an issuer that the authority knows: see `takes` of an application. */
export const vouch = async (project: string): Promise<Minted> => ({
  ok: true,
  token: `the word for ${project}`,
  expiresAt: Date.now() + 600_000,
  principal: {
    issuer: "https://broker.example",
    subject: `project:${project}`,
    clientId: null,
    tenant: null,
  },
});

const clock = {
  now: () => Date.now(),
  sleep: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, Math.min(ms, 20))),
};

export const secretIdentity = {
  type: "secret",
  tenantId: TENANT,
  clientId: APP,
  clientSecret: "env:APP_SECRET",
} as const;

export const project = (entry: Partial<EntraSettings["projects"][string]>) => ({
  identity: null,
  agents: null,
  onBehalfOf: null,
  ...entry,
});

export const never = () => new AbortController().signal;

/** What can be read of an outcome by whoever logs or prints it. */
export const shown = (minted: Minted | Entra) =>
  `${inspect(minted, { depth: 20 })} ${JSON.stringify(minted)}`;

export function tokenOf(minted: Minted): string {
  if (!minted.ok) throw new Error(`no token: ${minted.message}`);
  return minted.token;
}
