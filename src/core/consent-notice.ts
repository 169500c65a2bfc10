import type { Consents } from "./consents.ts";
import type { ConnectionId } from "./ids.ts";
import { hasPrefix } from "./ids.ts";
import type { ConsentNotice, ConsentRequest, Item, Message } from "./items.ts";
import type { TurnEvent } from "./request.ts";
import { say, type Turn } from "./turn-say.ts";

/** What clients without a button for consents show: every link, each with its server. */
export function noticeText({ requests }: Pick<ConsentNotice, "requests">): string {
  const [only, ...others] = requests;
  if (only && others.length === 0) {
    return `To go on, connect your account of ${only.label}: ${only.link}\nThen ask again.`;
  }
  const lines = requests.map(({ label, link }) => `- ${label}: ${link}`);
  return `To go on, connect your accounts:\n${lines.join("\n")}\nThen ask again.`;
}

/** Asks for what is missing, as the project wants it: items first, then one message with every link (responses-wire 6). */
export async function* sayConsents(turn: Turn): AsyncGenerator<TurnEvent> {
  const { consents, plan } = turn;
  if (consents.length === 0) return;
  const { consentPresentation: shown } = plan.context.project.settings;
  if (shown !== "message") {
    // Whoever had the turn before may have said some.
    const told = new Set(turn.output.map(({ id }) => id));
    for (const request of consents) {
      if (!told.has(request.id)) yield* sayRequest(turn, { kind: "oauth_consent_request", ...request });
    }
  }
  const isNoticed = turn.output.some(({ kind }) => kind === "consent_notice");
  if (shown !== "item" && !isNoticed) yield* sayNotice(turn);
}

async function* sayRequest(turn: Turn, item: ConsentRequest): AsyncGenerator<TurnEvent> {
  const index = turn.output.length;
  for await (const event of say(turn, item)) {
    const isEnd = event.kind === "item_done";
    if (isEnd && turn.plan.context.project.settings.consentEvent) {
      yield { kind: "consent_requested", index, item };
    }
    yield event;
  }
}

/** Streams like any message; kept without its links. */
async function* sayNotice(turn: Turn): AsyncGenerator<TurnEvent> {
  const id = turn.desks.world.newId("msg");
  const index = turn.output.length;
  const item: ConsentNotice = { kind: "consent_notice", id, requests: turn.consents };
  const begun: Message = { kind: "message", id, role: "assistant", status: "in_progress", content: [] };
  const text = noticeText(item);
  turn.output.push(item);
  yield { kind: "item_added", index, item: begun };
  yield { kind: "part_added", index, itemId: id, part: 0, of: "output_text" };
  yield { kind: "text_delta", index, itemId: id, part: 0, of: "output_text", delta: text };
  yield { kind: "part_done", index, itemId: id, part: 0, of: "output_text", text };
  yield { kind: "item_done", index, item };
}

/** The consents that a response asked for, by id. */
export function consentsIn(output: Item[]): string[] {
  const ids = output.flatMap((item) => {
    if (item.kind === "oauth_consent_request") return [item.id];
    return item.kind === "consent_notice" ? item.requests.map(({ id }) => id) : [];
  });
  return [...new Set(ids)];
}

/** The connections of those consents that the person declined. */
export async function declinedOf(consents: Consents, ids: string[]): Promise<Set<ConnectionId>> {
  const own = ids.filter((id) => hasPrefix("oauthreq", id));
  const found = await Promise.all(own.map((id) => consents.find(id)));
  return new Set(found.flatMap((consent) => (consent?.status === "declined" ? [consent.connectionId] : [])));
}
