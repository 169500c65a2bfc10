import type { AuditEntry } from "./audit.ts";
import type { Owner, Viewer } from "./identity.ts";
import type { Id, UserId } from "./ids.ts";
import type { ItemRow, Listed } from "./storage.ts";

export type ConversationId = Id<"conv">;

/** A thread with a name of its own: items in order, which callers add and responses append to. */
export type Conversation = {
  id: ConversationId;
  project: string;
  owner: Owner;
  createdAt: number;
  metadata: Record<string, string>;
};

/** `end`: the position that the next item gets. Positions are never given again: an item that is deleted leaves a gap. */
export type StoredConversation = { conversation: Conversation; end: number };

/** Which of a conversation's items: `after` is an item's id. */
export type ItemsQuery = {
  project: string;
  id: ConversationId;
  after: string | null;
  limit: number;
  order: "asc" | "desc";
};

/** A conversation as its viewer names it: foreign and unknown are the same. */
export type OwnedConversation = { project: string; id: string; viewer: Viewer };

/**
 * Conversations. Their items are rows of the thread of the same id, sealed for their places (`itemAad`), and are appended
 * by `append` here and by `Responses.append`: both only where the thread ends, so that of any number that append at once
 * exactly one does, and the others append behind it.
 */
export type Conversations = {
  /** With its first items, from position 0. */
  insert: (conversation: Conversation, rows: ItemRow[]) => Promise<void>;
  get: (query: OwnedConversation) => Promise<StoredConversation | null>;
  /** A conversation of nobody's becomes this user's. False: it is another's already, or gone. */
  claim: (project: string, id: ConversationId, user: UserId) => Promise<boolean>;
  setMetadata: (query: OwnedConversation, metadata: Record<string, string>) => Promise<Conversation | null>;
  /** Adds items where the conversation ends, at `from`. False: it ends elsewhere or is gone; then nothing is written. */
  append: (project: string, id: ConversationId, from: number, rows: ItemRow[]) => Promise<boolean>;
  /**
   * One query, whatever the length. An item that stands there several times (a question that was asked again) is listed
   * once, where it stands last. `after` that is no item of the conversation gives null.
   */
  items: (query: ItemsQuery) => Promise<Listed<ItemRow> | null>;
  item: (project: string, id: ConversationId, itemId: string) => Promise<ItemRow | null>;
  /** Wherever it stands in the conversation. False: there is no such item, or no such conversation. */
  deleteItem: (query: OwnedConversation, itemId: string, audit: AuditEntry[]) => Promise<boolean>;
  /**
   * Its items go with it, but for those that a response is made of. `unusedSince`: only if no response was made in it since then; of a
   * response that is appended at the same moment and the deletion exactly one happens. False: none that the viewer may see, or used.
   */
  delete: (query: OwnedConversation & { unusedSince?: number }, audit: AuditEntry[]) => Promise<boolean>;
};
