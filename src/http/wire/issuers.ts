import * as z from "zod";
import type { IssuerChange } from "../../core/administration/issuer-rules.ts";
import { invalid } from "../../core/errors.ts";
import { RIGHTS, ROLES } from "../../core/identity.ts";
import { DEFAULT_AUTHORITY, SIGNING_ALGORITHMS, SUBJECT_TOKEN_TYPES } from "../../core/issuers.ts";
import { isJsonObject } from "../../core/json.ts";
import { arrayOf, only, readAt, readWith, schemaOf, type Shape, typed } from "./shape.ts";

const roleRule = only({
  claim: z.string(),
  value: z.string(),
  roles: arrayOf(z.enum(ROLES), 100).default([]),
  rights: arrayOf(z.enum(RIGHTS), 100).default([]),
});

const common = {
  name: z.string(),
  audiences: arrayOf(z.string(), 1_000),
  clients: arrayOf(z.string(), 1_000).nullable().default(null),
  clockSkewSeconds: z.number().default(60),
  roles: arrayOf(roleRule, 1_000).default([]),
  confirmUrl: z.string().nullable().default(null),
  doneUrl: z.string().nullable().default(null),
};

const entra = only({
  type: z.literal("entra"),
  ...common,
  tenants: arrayOf(z.string(), 1_000),
  authority: z.string().default(DEFAULT_AUTHORITY),
});

const exchange = {
  clientId: z.string(),
  tokenEndpoint: z.string().nullable().default(null),
  subjectTokenType: z.enum(SUBJECT_TOKEN_TYPES).default("access_token"),
};

const oidcFields = {
  type: z.literal("oidc"),
  ...common,
  issuer: z.string(),
  algorithms: arrayOf(z.enum(SIGNING_ALGORITHMS), 100).default(["RS256", "PS256", "ES256", "EdDSA"]),
  delegated: only({ claim: z.string(), value: z.string().nullable().default(null) })
    .nullable()
    .default(null),
};

const oidc = only({
  ...oidcFields,
  exchange: only({
    ...exchange,
    /** Write-only. Left out: as before; null: a public client. */
    clientSecret: z.string().nullable().optional(),
  })
    .nullable()
    .default(null),
});

/** One issuer; `type` says which fields it has. */
export const issuerChange: Shape<IssuerChange> = readWith(readIssuer, {
  oneOf: [typed("entra", schemaOf(entra)), typed("oidc", schemaOf(oidc))],
});

function readIssuer(value: unknown, param: string): IssuerChange {
  if (!isJsonObject(value)) throw invalid({ param, message: "must be an object" });
  switch (value["type"]) {
    case "entra":
      return readAt(entra, value, param);
    case "oidc":
      return readAt(oidc, value, param);
  }
  throw invalid({ param: "type", message: 'must be "entra" or "oidc"' });
}

/** As it is read back: without what is secret. */
export const issuerBody = z.union([entra, only({ ...oidcFields, exchange: only(exchange).nullable() })]);
