/** A prefix and 50 lower-case hex characters: the shape that OpenAI's and Foundry's clients and servers expect. */
export type IdPrefix =
  | "resp" // a response
  | "conv" // a conversation
  | "thrd" // a thread
  | "msg" // a message item
  | "fc" // a function call item
  | "fco" // a function call output item
  | "rs" // a reasoning item
  | "itm" // any other input item
  | "cmp" // a compaction item
  | "mcpl" // a tool list item
  | "mcpr" // an approval request item, which is also the held call's id
  | "mcpa" // an approval response item
  | "mcp" // a tool call item
  | "conn"
  | "key"
  | "evt" // an audit entry; sorts by time
  | "req" // one HTTP request
  | "grant"
  | "oauthreq" // a consent, and the item that asks for it
  | "reg" // a client registration
  | "w"; // a write: the fresh mark that guards a list of statements

export type Id<P extends IdPrefix> = `${P}_${string}`;
export type ResponseId = Id<"resp">;
export type ThreadId = Id<"thrd"> | Id<"conv">;
export type HeldCallId = Id<"mcpr">;
export type ConnectionId = Id<"conn">;
export type KeyId = Id<"key">;
export type ConsentId = Id<"oauthreq">;
export type AuditId = Id<"evt">;

/** `realm:subject` (DESIGN 5). Realms never mix; the subject may itself hold colons. */
export type UserId = `${string}:${string}`;

export function hasPrefix<P extends IdPrefix>(prefix: P, value: string): value is Id<P> {
  return value.startsWith(`${prefix}_`);
}
