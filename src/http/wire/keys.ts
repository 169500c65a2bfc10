import * as z from "zod";
import type { KeyDraft, NewKey } from "../../core/administration/keys.ts";
import { RIGHTS, ROLES } from "../../core/identity.ts";
import type { Key } from "../../core/storage.ts";
import { moment, writeMoment } from "./common.ts";
import { nearMiss } from "./near-miss.ts";
import { arrayOf, only, type Shape } from "./shape.ts";

const draftFields = {
  name: z.string(),
  roles: arrayOf(z.enum(ROLES), 100).default([]),
  rights: arrayOf(z.enum(RIGHTS), 100).default([]),
  expiresAt: moment.nullable().default(null),
  confirmUrl: z.string().nullable().default(null),
  doneUrl: z.string().nullable().default(null),
};

export const keyDraft: Shape<KeyDraft> = only(draftFields, (name) =>
  RIGHTS.some((right) => right === name) ? `did you mean "rights": ["${name}"]?` : null,
);

const ALL_FIELDS = Object.keys(draftFields);

export const rotation = only({ graceMs: z.number().optional() }, (name) =>
  ALL_FIELDS.includes(name) || nearMiss(name, ALL_FIELDS) !== null
    ? "a successor has what its predecessor has, URLs included: to change that make another key"
    : null,
).default({});

export const keyBody = z.object({
  id: z.string(),
  name: z.string(),
  principal: z.string(),
  roles: z.array(z.enum(ROLES)),
  rights: z.array(z.enum(RIGHTS)),
  createdAt: z.string(),
  expiresAt: z.string().nullable(),
  confirmUrl: z.string().nullable(),
  doneUrl: z.string().nullable(),
});

/** The key itself is in the answer to its making, and nowhere afterwards. */
export const newKeyBody = keyBody.extend({ key: z.string() });

export function writeKey(key: Key): z.infer<typeof keyBody> {
  const { id, name, principal, roles, rights, createdAt, expiresAt, confirmUrl, doneUrl } = key;
  return {
    id,
    name,
    principal,
    roles,
    rights,
    createdAt: writeMoment(createdAt),
    expiresAt: expiresAt === null ? null : writeMoment(expiresAt),
    confirmUrl,
    doneUrl,
  };
}

export function writeNewKey({ key, secret }: NewKey): z.infer<typeof newKeyBody> {
  return { ...writeKey(key), key: secret };
}
