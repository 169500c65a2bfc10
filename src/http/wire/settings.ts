import * as z from "zod";
import type { SettingsChange } from "../../core/administration/settings.ts";
import type { Settings } from "../../core/project.ts";
import { approvalRule, writeApprovalRule } from "./policy.ts";
import { arrayOf, jsonObject, type Shape } from "./shape.ts";

/** Some or all settings. Strict: a misspelt setting must not pass for one that is set. */
export const settingsChange: Shape<SettingsChange> = z.strictObject({
  users: z.strictObject({ fromBody: z.boolean().optional() }).optional(),
  defaultRequireApproval: approvalRule.optional(),
  approvals: z.strictObject({ expireAfterMs: z.number().optional() }).optional(),
  adhocServers: z
    .union([z.enum(["allow", "deny"]), arrayOf(z.string(), 1_000), z.null()], {
      error: 'must be "allow", "deny", an array of hosts, or null',
    })
    .optional(),
});

export const settingsBody = z.object({
  users: z.object({ fromBody: z.boolean() }),
  defaultRequireApproval: z.union([z.enum(["always", "never"]), jsonObject, z.null()]),
  approvals: z.object({ expireAfterMs: z.number() }),
  adhocServers: z.union([z.enum(["allow", "deny"]), z.array(z.string()), z.null()]),
});

export function writeSettingsBody(settings: Settings): z.infer<typeof settingsBody> {
  const { users, defaultRequireApproval, approvals, adhocServers } = settings;
  return {
    users: { fromBody: users.fromBody },
    defaultRequireApproval: defaultRequireApproval && writeApprovalRule(defaultRequireApproval),
    approvals: { expireAfterMs: approvals.expireAfterMs },
    adhocServers,
  };
}
