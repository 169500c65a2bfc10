import { audienceFault } from "./audience-rules.ts";
import type { Context } from "./context.ts";
import { callerAudiences } from "./issuers.ts";
import type { IdentityProvider, MachineIdentity } from "./machine-identity.ts";
import type { World } from "./ports.ts";
import { identityOf } from "./workload.ts";

/** Who vouches for an identity, for one audience at one place. `by` keeps the two apart where tokens are remembered. */
export type IdentitySource = {
  ok: true;
  identity: MachineIdentity;
  provider: IdentityProvider;
  audience: string;
  by: "entra" | "workload";
};

/**
 * Entra, where the operator gave the project an identity there; else our own issuer, whose tokens go to the connection's own
 * target and nowhere else. Entra's go only where the operator's list allows (DESIGN 11).
 */
export async function sourceOf(
  world: World,
  context: Context,
  { of, audience, url }: { of: "project" | "agent"; audience: string; url: string },
): Promise<IdentitySource | { ok: false; message: string }> {
  const identity = identityOf(of, context);
  if (identity.kind === "agent" && identity.agent !== null && context.agentMadeAt == null)
    return { ok: false, message: `the agent ${identity.agent} that asked for it is gone, or disabled` };
  // Settings may have changed since the connection was saved.
  const refused = audienceFaultIn(world, context.project, audience);
  if (refused !== null) return { ok: false, message: `its audience ${refused}` };
  const { entra, workload } = world;
  if (entra === null || (await entra.describe(identity)) === null)
    return { ok: true, identity, provider: workload, audience, by: "workload" };
  const fault = entra.targetFault(url, audience);
  if (fault !== null) return { ok: false, message: fault };
  return { ok: true, identity, provider: entra, audience, by: "entra" };
}

/** Tokens for ourselves, or for what makes somebody a caller of ours, are nobody's to ask for. Null: the audience is fine. */
export function audienceFaultIn(
  { publicUrl }: Pick<World, "publicUrl">,
  project: Context["project"],
  audience: string,
): string | null {
  return audienceFault(audience, {
    publicUrl,
    callers: callerAudiences(project),
  });
}
