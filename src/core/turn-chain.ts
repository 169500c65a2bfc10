import type { Desks } from "./approved.ts";
import { isUnderWay } from "./background.ts";
import type { Context } from "./context.ts";
import { conversationChain, conversationOf, MAX_THREAD_ITEMS, type Named } from "./conversation-turn.ts";
import { BrokerError, invalid } from "./errors.ts";
import { type Owner, viewer } from "./identity.ts";
import { hasPrefix, type UserId } from "./ids.ts";
import type { TurnRequest } from "./request.ts";
import type { HeldCall } from "./storage.ts";
import { type Chain, loadChain } from "./thread.ts";

type Only = Pick<Desks, "world">;

/** What a request goes on from, and for whom. `named`: the conversation that it names. */
export async function findChain(
  { world }: Only,
  asked: Context,
  request: TurnRequest,
  named: Named | null,
): Promise<{ context: Context; chain: Chain | null }> {
  const project = asked.project.name;
  const seenBy = viewer(asked.caller, asked.user);
  const answered = await answeredCalls({ world }, asked, request);
  if (named) {
    const owners = [...answered.map(({ owner }) => owner), named.owner];
    const context = { ...asked, user: await inheritedUser({ world }, asked, owners) };
    requireRoom(named.end, request, "conversation");
    return { context, chain: await conversationChain(world, asked, named) };
  }
  const id = request.previousResponseId ?? (await responseOfApprovals({ world }, asked, request, answered));
  const stored = id === null ? null : await world.store.responses.get(project, id, seenBy);
  if (id !== null && !stored) {
    if (await isUnderWay(world, asked, id)) throw new BrokerError("still_running", { id });
    throw new BrokerError("previous_response_not_found", { id });
  }
  const owners = [...answered.map(({ owner }) => owner), ...(stored ? [stored.response.owner] : [])];
  const context = { ...asked, user: await inheritedUser({ world }, asked, owners) };
  if (!stored) return { context, chain: null };
  requireRoom(stored.end, request, "previous_response_id");
  return { context, chain: await loadChain(world, stored, await conversationOf(world, context, stored)) };
}

function requireRoom(end: number, { input }: TurnRequest, param: string): void {
  if (end + input.length <= MAX_THREAD_ITEMS) return;
  const message = `the conversation is too long: it may have ${MAX_THREAD_ITEMS} items`;
  throw invalid({ param, message });
}

/** The held calls that a request answers or points at, as far as its caller may see them. */
async function answeredCalls(
  { world }: Only,
  { caller, user, project }: Context,
  request: TurnRequest,
): Promise<HeldCall[]> {
  const ids = request.input.flatMap((item) => {
    if (item.kind === "mcp_approval_response") return [item.requestId];
    return item.kind === "reference" && hasPrefix("mcpr", item.id) ? [item.id] : [];
  });
  const seenBy = viewer(caller, user);
  const found = await Promise.all(
    [...new Set(ids)].map((id) => world.store.heldCalls.getOwned(project.name, id, seenBy)),
  );
  return found.filter((call) => call !== null);
}

/**
 * Whom a follow-up is for when it names nobody: the user of what it answers (DESIGN 5). All of it must be one person's.
 * Throws `invalid` where it is not, `user_blocked` for a user who was blocked.
 */
async function inheritedUser(
  { world }: Only,
  { user, project }: Context,
  owners: Owner[],
): Promise<UserId | null> {
  if (user !== null) return user;
  const [first, ...others] = new Set(owners.flatMap((owner) => (owner.user === null ? [] : [owner.user])));
  if (first === undefined) return null;
  if (others.length > 0) {
    throw invalid({
      param: "input",
      message: "answers calls of several users; name one, or ask for each by itself",
    });
  }
  const row = await world.store.users.get(project.name, first);
  if (row?.status === "blocked") throw new BrokerError("user_blocked", {});
  return first;
}

/** Some clients answer an approval by its id alone: then the response that asked is the one they mean. */
async function responseOfApprovals(
  { world }: Only,
  { caller, user, project }: Context,
  { input }: TurnRequest,
  answered: HeldCall[],
): Promise<string | null> {
  if (!input.every((item) => item.kind === "mcp_approval_response")) return null;
  const id = answered.at(0)?.responseId;
  if (!id) return null;
  return (await world.store.responses.get(project.name, id, viewer(caller, user))) ? id : null;
}
