import type { UserId } from "./ids.ts";
import type { World } from "./ports.ts";
import type { ConsentProof, Project } from "./project.ts";
import { realmOfSignIn } from "./sign-in-user.ts";

/** How the person is to be proven, or why nobody can be and what to set. */
export type Proof = { ok: true; proof: ConsentProof } | { ok: false; message: string };

/**
 * How the person at a consent page will be proven to be the user (DESIGN 6). There is no fallback from one proof to another:
 * what is unset or incomplete is a message that names the setting.
 *
 * `asker`: what the caller that asks is registered by (its API key, or its issuer's entry), to whose `confirmUrl` the proof
 * `runtime` sends people. Null: it is gone.
 */
export function proofOf(
  world: Pick<World, "consent" | "local">,
  project: Pick<Project, "name" | "settings">,
  asker: { confirmUrl: string | null } | null,
  user: UserId,
): Proof {
  const proof = project.settings.consentProof ?? world.consent.proof;
  if (proof === null) {
    return missing(
      "nothing says how people prove who they are: set consentProof in the project's settings, or CONSENTRY_CONSENT_PROOF",
    );
  }
  switch (proof) {
    case "sign-in": {
      const fault = signInFault(project, user);
      return fault === null ? { ok: true, proof } : missing(fault);
    }
    case "runtime":
      if (!user.startsWith("app:")) {
        return missing(
          'consentProof is "runtime", which confirms users that callers name, and this one came with a token: use "sign-in"',
        );
      }
      if (asker?.confirmUrl != null) return { ok: true, proof };
      return missing(
        'consentProof is "runtime", and the API key or issuer of the caller that asks has no confirmUrl: make a key with one, ' +
          "or set it for the issuer",
      );
    case "possession":
      if (world.local || world.consent.allowPossession.includes(project.name)) return { ok: true, proof };
      return missing(
        `consentProof is "possession", which CONSENTRY_ALLOW_POSSESSION does not allow the project ${project.name}`,
      );
  }
}

function signInFault({ settings }: Pick<Project, "settings">, user: UserId): string | null {
  const { signIn } = settings;
  if (signIn === null) {
    return 'consentProof is "sign-in", and the project has no issuer to sign in at: set signIn in its settings';
  }
  const realm = realmOfSignIn({ ...settings, signIn });
  const asked = user.slice(0, user.indexOf(":"));
  if (asked === realm) return null;
  if (asked === "app") {
    return (
      `consentProof is "sign-in", and nothing says how names that callers assert appear at ${signIn.issuer}: ` +
      "set users.assertedAs in the project's settings to that issuer and one of its claims"
    );
  }
  return (
    `consentProof is "sign-in", and people who sign in at ${signIn.issuer} are users of the realm ${realm}, ` +
    `not of ${asked}: see signIn and users.assertedAs in the project's settings`
  );
}

function missing(message: string): Proof {
  return { ok: false, message };
}
