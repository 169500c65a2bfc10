import type { Connected, MePages, MeView, Visitor, WithBrowser } from "./consent-views.ts";
import { type Actor, auditEntry, type Context } from "./context.ts";
import type { Connection } from "./connection.ts";
import type { Handle } from "./consents.ts";
import type { Told } from "./disconnect.ts";
import { BrokerError, invalid } from "./errors.ts";
import type { Grant, GrantKey } from "./grants.ts";
import { assertedUser, requireRight } from "./identity.ts";
import { hasPrefix, type UserId } from "./ids.ts";
import { endSession, startSession, userOfHandle, userOfSession } from "./me-session.ts";
import type { World } from "./ports.ts";
import type { SignInDesk } from "./sign-in.ts";
import type { Listed, Page } from "./storage.ts";

/** Takes a grant back, here and at its authorization server. Null: there was none to take back. */
export type Disconnect = (actor: Actor, key: GrantKey) => Promise<Told | null>;

/** `/me/{project}`: what a person connected, and the way to take it back (DESIGN 6). */
export function createMePages(
  world: World,
  { signIn, disconnect }: { signIn: SignInDesk; disconnect: Disconnect },
): MePages {
  const sessionCsrf = (project: string, session: string) => JSON.stringify(["me", project, session]);
  const signInCsrf = (project: string, browser: string) => JSON.stringify(["me-sign-in", project, browser]);
  const linkCsrf = (project: string, token: string, browser: string) =>
    JSON.stringify(["me-link", project, token, browser]);
  const sign = (text: string) => world.signer.sign(CSRF, text);
  const isOurs = (text: string, mac: string) => world.signer.isOurs(CSRF, text, mac);

  /** For a browser that nobody is known to sit at. */
  async function outside(name: string, visitor: Visitor): Promise<WithBrowser<MeView>> {
    const project = await world.store.projects.get(name);
    const settings = project?.settings.signIn;
    if (!settings) return { view: { kind: "closed" }, setBrowser: null };
    const { browser, setBrowser } = browserOf(visitor);
    const csrf = await sign(signInCsrf(name, browser));
    return { view: { kind: "sign_in", host: new URL(settings.issuer).host, csrf }, setBrowser };
  }

  async function inside(
    { project, user, session }: { project: string; user: UserId; session: string },
    done: (MeView & { kind: "me" })["done"],
  ): Promise<MeView> {
    const connected = await connectedOf(project, user);
    return { kind: "me", user, connected, csrf: await sign(sessionCsrf(project, session)), done };
  }

  async function connectedOf(project: string, user: UserId): Promise<Connected[]> {
    const grants = await all(
      (page) => world.store.grants.list(project, { user }, page),
      ({ id }) => id,
    );
    const shown = grants.filter(({ status }) => status !== "revoked");
    if (shown.length === 0) return [];
    const records = await Promise.all(
      shown.map(({ connectionId }) => world.store.connections.find(project, connectionId)),
    );
    return shown
      .flatMap((grant, at) => connectedBy(grant, records[at]?.connection))
      .toSorted((one, other) => one.connection.localeCompare(other.connection, "en"));
  }

  function browserOf({ browser }: Visitor): { browser: string; setBrowser: string | null } {
    if (browser !== null) return { browser, setBrowser: null };
    const fresh = world.crypto.randomText(TOKEN_BYTES);
    return { browser: fresh, setBrowser: fresh };
  }

  /** A link that may still be opened. It is looked at, not taken. */
  async function openable(project: string, token: string): Promise<Handle | null> {
    const hash = await world.crypto.sha256(token);
    const handle = await world.store.handles.get("me_link", hash, world.clock.now());
    return handle?.project === project ? handle : null;
  }

  return {
    show: async (project, visitor, session) => {
      const user = await userOfSession(world, project, session);
      if (user === null || session === null) return outside(project, visitor);
      return { view: await inside({ project, user, session }, null), setBrowser: null };
    },
    signIn: async (project, visitor, csrf) => {
      const keep = (view: MeView) => ({ view, setBrowser: null });
      const { browser } = visitor;
      if (browser === null || !(await isOurs(signInCsrf(project, browser), csrf))) {
        return keep({ kind: "refused" });
      }
      const begun = await signIn.begin({ kind: "me", project }, await world.crypto.sha256(browser));
      return keep(begun.ok ? { kind: "go", url: begun.url } : { kind: "unusable", message: begun.message });
    },
    showLink: async (project, token, visitor) => {
      const handle = await openable(project, token);
      if (!handle) return { view: { kind: "no_link" }, setBrowser: null };
      const { browser, setBrowser } = browserOf(visitor);
      return {
        view: { kind: "link", token, csrf: await sign(linkCsrf(project, token, browser)) },
        setBrowser,
      };
    },
    openLink: async (project, token, visitor, csrf) => {
      const refused = { view: { kind: "refused" as const }, setBrowser: null, setSession: null };
      const { browser } = visitor;
      if (browser === null || !(await isOurs(linkCsrf(project, token, browser), csrf))) return refused;
      const seen = await openable(project, token);
      const handle =
        seen &&
        (await world.store.handles.take({
          kind: "me_link",
          hash: seen.hash,
          browserHash: await world.crypto.sha256(browser),
          now: world.clock.now(),
        }));
      if (!handle) return { ...refused, view: { kind: "no_link" } };
      const user = await userOfHandle(world, handle);
      if (user === null) return refused;
      const setSession = await startSession(world, project, user);
      return { view: { kind: "go", url: pageOf(world, project) }, setBrowser: null, setSession };
    },
    disconnect: async (project, { grant: id, csrf }, { requestId }, session) => {
      const user = await userOfSession(world, project, session);
      if (user === null || session === null) return { kind: "refused" };
      if (!(await isOurs(sessionCsrf(project, session), csrf))) return { kind: "refused" };
      const own = { project, user, session };
      const grant = hasPrefix("grant", id) ? await world.store.grants.find(project, id) : null;
      if (grant?.user !== user) return inside(own, null);
      const { connectionId } = grant;
      const before = await connectedOf(project, user);
      const connection = before.find((one) => one.grant === id)?.connection;
      const actor: Actor = { caller: { principal: null }, user, requestId, project: { name: project } };
      const upstream = await disconnect(actor, { project, connectionId, user });
      return inside(own, upstream !== null && connection !== undefined ? { connection, upstream } : null);
    },
    leave: async (project, csrf, _visitor, session) => {
      if (session === null || !(await isOurs(sessionCsrf(project, session), csrf)))
        return { kind: "refused" };
      await endSession(world, session);
      return { kind: "left" };
    },
    makeLink: async (context: Context, name: string | null) => {
      const user = name === null ? provenUser(context) : namedUser(context, name);
      const project = context.project.name;
      const known = await world.store.users.get(project, user);
      if (known?.status === "blocked") throw new BrokerError("user_blocked", {});
      const token = world.crypto.randomText(TOKEN_BYTES);
      const now = world.clock.now();
      const handle: Handle = {
        hash: await world.crypto.sha256(token),
        kind: "me_link",
        project,
        subject: user,
        browserHash: null,
        sealed: null,
        createdAt: now,
        expiresAt: now + LINK_MS,
      };
      await world.store.handles.put(handle, [auditEntry(world, { ...context, user }, "me_link_made")]);
      return { url: `${pageOf(world, project)}/link/${token}`, expiresAt: handle.expiresAt };
    },
  };
}

function namedUser({ caller }: Context, name: string): UserId {
  requireRight(caller, "act_for_users");
  return assertedUser(name, "user");
}

/** Nobody needs a right for the own accounts: the token that the request came with says whose they are. */
function provenUser({ user, userToken }: Context): UserId {
  if (user !== null && userToken !== null) return user;
  throw invalid({
    param: "user",
    message: "is required, unless the request comes with the user's own token",
  });
}

const CSRF = "csrf";
/** 256 bits. */
const TOKEN_BYTES = 32;
const LINK_MS = 10 * 60_000;
const PAGE_ROWS = 100;

const pageOf = ({ publicUrl }: World, project: string) => `${publicUrl}/me/${project}`;

/** Every row of a list, page by page. */
async function all<T>(list: (page: Page) => Promise<Listed<T>>, cursorOf: (row: T) => string): Promise<T[]> {
  const rows: T[] = [];
  for (let after: string | null = null; ;) {
    const listed: Listed<T> = await list({ after, limit: PAGE_ROWS });
    rows.push(...listed.rows);
    const last = listed.rows.at(-1);
    if (!listed.more || last === undefined) return rows;
    after = cursorOf(last);
  }
}

/** Nothing of a connection that is gone: its grants are being taken back. */
function connectedBy(grant: Grant, connection: Connection | undefined): Connected[] {
  if (!connection || grant.status === "revoked") return [];
  return [
    {
      grant: grant.id,
      connection: connection.name,
      serverHost: new URL(connection.target).host,
      status: grant.status,
      scopes: grant.scopes,
      connectedAt: grant.createdAt,
      lastUsedAt: grant.lastUsedAt,
      lastUsedBy: grant.lastUsedBy,
      renewsItself: grant.hasRefreshToken,
    },
  ];
}
