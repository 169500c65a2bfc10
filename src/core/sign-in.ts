import { readSignInSecret } from "./administration/settings.ts";
import { consentLink } from "./consent-asking.ts";
import { refuse } from "./consent-ends.ts";
import type { SignInEnd, Visitor } from "./consent-views.ts";
import type { Handle } from "./consents.ts";
import { type ConsentId, hasPrefix, type UserId } from "./ids.ts";
import { isJsonObject, type Json } from "./json.ts";
import { startSession } from "./me-session.ts";
import type { SignInClient } from "./oauth.ts";
import type { World } from "./ports.ts";
import type { Project, SignInSettings } from "./project.ts";
import { failSignIn, SIGN_IN_CHANGED } from "./sign-in-failure.ts";
import { userOfClaims } from "./sign-in-user.ts";
import { handleAad } from "./storage.ts";

/** What a sign-in is made for, and nothing else (DESIGN 6). */
export type SignInSubject =
  | { kind: "consent"; project: string; id: ConsentId }
  | { kind: "me"; project: string };

/** Where the browser goes to sign in, or why it cannot, in words of ours. */
export type SignInBegun = { ok: true; url: string } | { ok: false; message: string };

/** The OpenID sign-in at a project's issuer. Never throws for what a visitor or a server does. */
export type SignInDesk = {
  /** For the browser whose cookie has this hash, for ten minutes. */
  begin: (subject: SignInSubject, browserHash: string) => Promise<SignInBegun>;
  /** `params`: the query as it came. */
  finish: (params: URLSearchParams, visitor: Visitor) => Promise<SignInEnd>;
};

/** The sign-in at a project's issuer, made for one thing: state, nonce and PKCE are bound to it and to the browser. */
export function createSignInDesk(world: World): SignInDesk {
  const redirectUri = `${world.publicUrl}/signin/callback`;

  async function clientOf(project: Project, signIn: SignInSettings): Promise<SignInClient> {
    const { issuer, clientId } = signIn;
    return { issuer, clientId, clientSecret: await readSignInSecret(world, project), redirectUri };
  }

  async function finishFor(handle: Handle, params: URLSearchParams, visitor: Visitor): Promise<SignInEnd> {
    const subject = subjectOf(handle);
    const back = await backOf(subject);
    const project = await world.store.projects.get(handle.project);
    const made = await openMade(handle);
    const signIn = project?.settings.signIn;
    if (!project || !signIn || signIn.issuer !== made.issuer || signIn.clientId !== made.clientId)
      return { kind: "failed", ...SIGN_IN_CHANGED, back };

    const { nonce, verifier } = made;
    const outcome = await world.signIn.claims(
      {
        ...(await clientOf(project, signIn)),
        callback: params,
        state: params.get("state") ?? "",
        nonce,
        verifier,
      },
      AbortSignal.timeout(SIGN_IN_MS),
    );
    if (!outcome.ok) {
      const about = { subject, signIn, requestId: visitor.requestId };
      return { kind: "failed", ...(await failSignIn(world, outcome.failure, about)), back };
    }
    const user = userOfClaims({ ...project.settings, signIn }, outcome.value);
    return subject.kind === "consent"
      ? prove({ id: subject.id, user }, visitor, back)
      : enter(project, user, back);
  }

  /** The person is the user, or hears one dull sentence (A1). */
  async function prove(
    { id, user }: { id: ConsentId; user: UserId | null },
    visitor: Visitor,
    url: string,
  ): Promise<SignInEnd> {
    const consent = await world.store.consents.find(id);
    if (!consent) return { kind: "refused" };
    if (user !== consent.user) {
      const { requestId } = visitor;
      await refuse(world, consent, { why: user === null ? "no_user" : "other_user", requestId });
      return { kind: "refused" };
    }
    // Null: it is over by now, which its page says better.
    await world.store.consents.prove(
      {
        id,
        browserHash: await hashOf(visitor.browser ?? ""),
        by: "sign-in",
        rebind: "while open",
        now: world.clock.now(),
      },
      [],
    );
    return { kind: "consent", url };
  }

  async function enter(project: Project, user: UserId | null, url: string): Promise<SignInEnd> {
    const known = user === null ? null : await world.store.users.get(project.name, user);
    if (user === null || known?.status === "blocked") {
      world.log("warn", "sign_in_refused", {
        project: project.name,
        why: user === null ? "no_user" : "blocked",
      });
      return { kind: "refused" };
    }
    return { kind: "me", url, session: await startSession(world, project.name, user) };
  }

  /** A browser that brings somebody else's state, or an old one: nothing is taken, and the audit says whose it was. */
  async function refuseStranger(hash: string, visitor: Visitor): Promise<void> {
    const handle = await world.store.handles.get("sign_in", hash, world.clock.now());
    const subject = handle && subjectOf(handle);
    if (subject?.kind !== "consent") return;
    const consent = await world.store.consents.find(subject.id);
    if (consent) await refuse(world, consent, { why: "other_browser", requestId: visitor.requestId });
  }

  async function backOf(subject: SignInSubject): Promise<string> {
    if (subject.kind === "me") return `${world.publicUrl}/me/${subject.project}`;
    return consentLink(world, subject.id);
  }

  async function openMade(handle: Handle): Promise<Made> {
    const aad = handleAad(handle.project, "sign_in", handle.hash);
    return readMade(handle.sealed ? await world.sealer.open(handle.sealed, aad) : "");
  }

  const hashOf = async (text: string) => world.crypto.sha256(text);

  return {
    begin: async (subject, browserHash) => {
      const project = await world.store.projects.get(subject.project);
      const signIn = project?.settings.signIn;
      if (!project || !signIn) return { ok: false, message: "No sign-in is set up here." };
      const state = world.crypto.randomText(SECRET_BYTES);
      const made: Made = {
        verifier: world.crypto.randomText(SECRET_BYTES),
        nonce: world.crypto.randomText(SECRET_BYTES),
        issuer: signIn.issuer,
        clientId: signIn.clientId,
      };
      const client = await clientOf(project, signIn);
      const outcome = await world.signIn.authorizationUrl(
        { ...client, state, nonce: made.nonce, verifier: made.verifier },
        AbortSignal.timeout(SIGN_IN_MS),
      );
      if (!outcome.ok) {
        const about = { subject, signIn, requestId: null };
        return { ok: false, message: (await failSignIn(world, outcome.failure, about)).message };
      }
      const hash = await hashOf(state);
      const now = world.clock.now();
      const aad = handleAad(project.name, "sign_in", hash);
      const handle: Handle = {
        hash,
        kind: "sign_in",
        project: project.name,
        subject: subject.kind === "consent" ? subject.id : ME,
        browserHash,
        sealed: await world.sealer.seal(JSON.stringify(made), aad),
        createdAt: now,
        expiresAt: now + STATE_MS,
      };
      await world.store.handles.put(handle, []);
      return { ok: true, url: outcome.value };
    },
    finish: async (params, visitor) => {
      const [state, ...more] = params.getAll("state");
      if (state === undefined || more.length > 0 || visitor.browser === null) return { kind: "refused" };
      const hash = await hashOf(state);
      const browserHash = await hashOf(visitor.browser);
      const now = world.clock.now();
      const handle = await world.store.handles.take({ kind: "sign_in", hash, browserHash, now });
      if (handle) return finishFor(handle, params, visitor);
      await refuseStranger(hash, visitor);
      return { kind: "refused" };
    },
  };
}

/** 256 bits. */
const SECRET_BYTES = 32;
const STATE_MS = 10 * 60_000;
const SIGN_IN_MS = 20_000;
/** The subject of a sign-in that is for no consent. */
const ME = "me";

/** What a sign-in was begun with; its callback is judged by nothing else. */
type Made = { verifier: string; nonce: string; issuer: string; clientId: string };

function readMade(plain: string): Made {
  const body: Json = JSON.parse(plain);
  if (!isJsonObject(body)) throw new Error("a box holds no sign-in");
  const text = (name: keyof Made) => {
    const value = body[name];
    return typeof value === "string" ? value : "";
  };
  return {
    verifier: text("verifier"),
    nonce: text("nonce"),
    issuer: text("issuer"),
    clientId: text("clientId"),
  };
}

function subjectOf({ subject, project }: Handle): SignInSubject {
  return hasPrefix("oauthreq", subject) ? { kind: "consent", project, id: subject } : { kind: "me", project };
}
