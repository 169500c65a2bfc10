import { invalid } from "../errors.ts";
import { textMembers } from "../json.ts";
import type { World } from "../ports.ts";
import type { Project, SignInSettings } from "../project.ts";
import { projectSecretsAad } from "../storage.ts";
import type { SignInChange } from "./sign-in-rules.ts";

/** What is sealed beside a project's settings. */
export type ProjectSecrets = { signIn: string | null };

/** The secrets, and the version of the project that they are sealed for. Throws `unavailable`. */
export async function openSecrets(
  { store, sealer }: Pick<World, "store" | "sealer">,
  name: string,
): Promise<{ version: number | null; secrets: ProjectSecrets }> {
  const kept = await store.projects.secrets(name);
  if (!kept?.sealed) return { version: kept?.version ?? null, secrets: { signIn: null } };
  const { version, sealed } = kept;
  const { signIn = null } = textMembers(
    JSON.parse(await sealer.open(sealed, projectSecretsAad(name, version))),
  );
  return { version, secrets: { signIn } };
}

/** Null: there are none to seal. */
export async function sealSecrets(
  { sealer }: Pick<World, "sealer">,
  secrets: ProjectSecrets,
  { name, version }: Pick<Project, "name" | "version">,
): Promise<Uint8Array | null> {
  return secrets.signIn === null
    ? null
    : sealer.seal(JSON.stringify(secrets), projectSecretsAad(name, version));
}

/**
 * The sign-in's client secret after a change. A kept one stays with the issuer and client that it was given for; a
 * replacement keeps none. Throws `invalid` when there was one and nobody says what becomes of it.
 */
export function signInSecretAfter(change: {
  before: SignInSettings | null;
  held: string | null;
  given: SignInChange | null | undefined;
  mode: "replace" | "change";
}): string | null {
  const { before, held, given, mode } = change;
  if (given === undefined) return mode === "change" ? held : null;
  if (given === null) return null;
  if (given.clientSecret !== undefined) return given.clientSecret;
  if (held === null) return null;
  const isSame = before?.issuer === given.issuer && before.clientId === given.clientId;
  if (isSame && mode === "change") return held;
  const message = "must be given again, or null for a public client";
  throw invalid({ param: "signIn.clientSecret", message });
}
