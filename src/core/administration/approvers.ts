import type { Context } from "../context.ts";
import type { World } from "../ports.ts";

/** Whether somebody can have the role `approver`: by a key that is live, or by the mapping of an issuer's claims. */
export async function someoneApproves(
  { store, clock }: Pick<World, "store" | "clock">,
  { project }: Pick<Context, "project">,
): Promise<boolean> {
  const isMapped = project.settings.issuers.some(({ roles }) =>
    roles.some((rule) => rule.roles.includes("approver")),
  );
  if (isMapped) return true;
  const bootstrap = await store.keys.getBootstrap();
  const keys = [...(await store.keys.list(project.name)), ...(bootstrap ? [bootstrap] : [])];
  const isLive = (expiresAt: number | null) => expiresAt === null || expiresAt > clock.now();
  return keys.some((key) => key.roles.includes("approver") && isLive(key.expiresAt));
}
