import type { ItemPage } from "./broker.ts";
import { auditEntry, type Context } from "./context.ts";
import { claimConversation, MAX_THREAD_ITEMS } from "./conversation-turn.ts";
import type { Conversation, OwnedConversation, StoredConversation } from "./conversations.ts";
import { BrokerError, invalid } from "./errors.ts";
import { viewer } from "./identity.ts";
import { resolveInput } from "./input.ts";
import type { InputItem, Item } from "./items.ts";
import type { World } from "./ports.ts";
import { openItem, sealItems } from "./thread.ts";

/**
 * Conversations as callers manage them. All but `create` throw `conversation_not_found`, for foreign ones, too; those that
 * name an item `not_found`.
 */
export type ConversationDesk = {
  create: (
    context: Context,
    made: { items: InputItem[]; metadata: Record<string, string> },
  ) => Promise<Conversation>;
  retrieve: (context: Context, id: string) => Promise<Conversation>;
  setMetadata: (context: Context, id: string, metadata: Record<string, string>) => Promise<Conversation>;
  delete: (context: Context, id: string) => Promise<void>;
  /** Gives the items as they were added. Throws `invalid` for items that cannot be. */
  addItems: (context: Context, id: string, items: InputItem[]) => Promise<Item[]>;
  /** Throws `invalid` when `after` is no item of the conversation. */
  items: (context: Context, id: string, page: ItemPage) => Promise<{ items: Item[]; more: boolean }>;
  item: (context: Context, id: string, itemId: string) => Promise<Item>;
  deleteItem: (context: Context, id: string, itemId: string) => Promise<Conversation>;
};

export function createConversationDesk(world: World): ConversationDesk {
  const { conversations } = world.store;

  async function find(context: Context, id: string): Promise<StoredConversation> {
    return (await conversations.get(owned(context, id))) ?? notFound(id);
  }

  return {
    create: async (context, { items, metadata }) => {
      requireHistory(items);
      const added = await resolveInput(world, context, items, null);
      requireRoom(0, added);
      const id = world.newId("conv");
      const conversation: Conversation = {
        id,
        project: context.project.name,
        owner: { user: context.user, principal: context.caller.principal },
        createdAt: world.clock.now(),
        metadata,
      };
      await conversations.insert(conversation, await sealItems(world, conversation.project, id, added, 0));
      return conversation;
    },

    retrieve: async (context, id) => (await find(context, id)).conversation,

    setMetadata: async (context, id, metadata) =>
      (await conversations.setMetadata(owned(context, id), metadata)) ?? notFound(id),

    delete: async (context, id) => {
      const entry = auditEntry(world, context, "conversation_deleted", { detail: { conversation: id } });
      if (!(await conversations.delete(owned(context, id), [entry]))) notFound(id);
    },

    addItems: async (context, id, items) => {
      requireHistory(items);
      const { conversation } = await find(context, id);
      const added = await resolveInput(world, context, items, null);
      await claimConversation(world, context, conversation, null);
      const { project, id: own } = conversation;
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const { end } = await find(context, id);
        requireRoom(end, added);
        const rows = await sealItems(world, project, own, added, end);
        if (await conversations.append(project, own, end, rows)) return added;
      }
      throw new BrokerError("unavailable", { what: "the conversation, to which too many append at once" });
    },

    items: async (context, id, page) => {
      const { conversation } = await find(context, id);
      const { project, id: own } = conversation;
      const listed = await conversations.items({ project, id: own, ...page });
      if (!listed) throw invalid({ param: "after", message: `is no item of ${id}` });
      const items = await Promise.all(listed.rows.map((row) => openItem(world, project, own, row)));
      return { items, more: listed.more };
    },

    item: async (context, id, itemId) => {
      const { conversation } = await find(context, id);
      const row = await conversations.item(conversation.project, conversation.id, itemId);
      if (!row) throw new BrokerError("not_found", { what: "conversation item", name: itemId });
      return openItem(world, conversation.project, conversation.id, row);
    },

    deleteItem: async (context, id, itemId) => {
      const { conversation } = await find(context, id);
      const entry = auditEntry(world, context, "conversation_item_deleted", {
        detail: { conversation: id, item: itemId },
      });
      const deleted = await conversations.deleteItem(owned(context, id), itemId, [entry]);
      if (!deleted) throw new BrokerError("not_found", { what: "conversation item", name: itemId });
      return conversation;
    },
  };
}

/** Each time somebody else appended, so only a crowd gets here. */
const MAX_ATTEMPTS = 50;

function owned({ project, caller, user }: Context, id: string): OwnedConversation {
  return { project: project.name, id, viewer: viewer(caller, user) };
}

function notFound(id: string): never {
  throw new BrokerError("conversation_not_found", { id, param: null });
}

/** A conversation says what was; nothing is executed from it. */
function requireHistory(items: InputItem[]): void {
  const at = items.findIndex((item) => item.kind === "mcp_call" && item.status === "calling");
  if (at < 0) return;
  throw invalid({
    param: `items[${at}].status`,
    message: "a call can be asked for in the input of a response only",
  });
}

function requireRoom(end: number, added: Item[]): void {
  if (end + added.length <= MAX_THREAD_ITEMS) return;
  throw invalid({ param: "items", message: `a conversation may have ${MAX_THREAD_ITEMS} items` });
}
