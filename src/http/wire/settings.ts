import * as z from "zod";
import type { SettingsChange } from "../../core/administration/settings.ts";
import { CONSENT_PROOFS, type Settings } from "../../core/project.ts";
import { issuerBody, issuerChange } from "./issuers.ts";
import { modelBodies, modelChanges, writeModels } from "./models.ts";
import { approvalRule, writeApprovalRule } from "./policy.ts";
import { arrayOf, jsonObject, only, type Shape } from "./shape.ts";

const presentation = z.enum(["item+message", "item", "message"]);
const status = z.enum(["completed", "incomplete"]);
const assertedAs = only({ issuer: z.string(), claim: z.string() });
const signIn = only({
  name: z.string(),
  issuer: z.string(),
  clientId: z.string(),
  /** Write-only. Left out: as before; null: a public client. */
  clientSecret: z.string().nullable().optional(),
});

const settings = {
  users: only({ fromBody: z.boolean().optional(), assertedAs: assertedAs.nullable().optional() }).optional(),
  defaultRequireApproval: approvalRule.optional(),
  approvals: only({ expireAfterMs: z.number().optional() }).optional(),
  adhocServers: z
    .union([z.enum(["allow", "deny"]), arrayOf(z.string(), 1_000), z.null()], {
      error: 'must be "allow", "deny", an array of hosts, or null',
    })
    .optional(),
  consentProof: z.enum(CONSENT_PROOFS).nullable().optional(),
  signIn: signIn.nullable().optional(),
  issuers: arrayOf(issuerChange, 1_000).optional(),
  models: modelChanges.optional(),
  consent_presentation: presentation.optional(),
  consent_status: status.optional(),
  consent_event: z.boolean().optional(),
  // The spelling of the settings beside them, for whoever expects it.
  consentPresentation: presentation.optional(),
  consentStatus: status.optional(),
  consentEvent: z.boolean().optional(),
};

/** `users.assertedAs` in a text is the object `assertedAs` in the object `users`. */
function dotted(name: string): string | null {
  const [outer = "", ...inner] = name.split(".");
  if (inner.length === 0 || inner.length > 2 || !Object.hasOwn(settings, outer)) return null;
  const meant = [outer, ...inner].reduceRight((within, step) => `{${JSON.stringify(step)}: ${within}}`, "…");
  return `did you mean ${meant}?`;
}

/** Some or all settings. Strict: a misspelt setting must not pass for one that is set. */
export const settingsChange: Shape<SettingsChange> = only(settings, dotted).transform(
  ({ consent_presentation, consent_status, consent_event, ...given }) => ({
    ...given,
    consentPresentation: consent_presentation ?? given.consentPresentation,
    consentStatus: consent_status ?? given.consentStatus,
    consentEvent: consent_event ?? given.consentEvent,
  }),
);

export const settingsBody = z.object({
  users: z.object({ fromBody: z.boolean(), assertedAs: assertedAs.nullable() }),
  defaultRequireApproval: z.union([z.enum(["always", "never"]), jsonObject, z.null()]),
  approvals: z.object({ expireAfterMs: z.number() }),
  adhocServers: z.union([z.enum(["allow", "deny"]), z.array(z.string()), z.null()]),
  consentProof: z.enum(CONSENT_PROOFS).nullable(),
  signIn: signIn.omit({ clientSecret: true }).nullable(),
  issuers: z.array(issuerBody),
  models: modelBodies,
  consent_presentation: presentation,
  consent_status: status,
  consent_event: z.boolean(),
});

export function writeSettingsBody(settings: Settings): z.infer<typeof settingsBody> {
  const { users, defaultRequireApproval, approvals, adhocServers, consentProof } = settings;
  return {
    users,
    defaultRequireApproval: defaultRequireApproval && writeApprovalRule(defaultRequireApproval),
    approvals: { expireAfterMs: approvals.expireAfterMs },
    adhocServers,
    consentProof,
    signIn: settings.signIn,
    issuers: settings.issuers,
    models: writeModels(settings.models),
    consent_presentation: settings.consentPresentation,
    consent_status: settings.consentStatus,
    consent_event: settings.consentEvent,
  };
}
