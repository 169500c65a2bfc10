import type { Response } from "openai/resources/responses/responses";

/** The demo's voice: what happens, who says it, and what came of it. */
export type Transcript = {
  title: (text: string) => void;
  step: (text: string) => void;
  say: (who: string, text: string) => void;
  response: (response: Response) => void;
};

export function createTranscript(write: (line: string) => void): Transcript {
  let steps = 0;
  const say: Transcript["say"] = (who, text) => {
    const [first = "", ...rest] = text.split("\n");
    write(`   ${who.padEnd(WHO_CHARS)} ${first}`);
    for (const line of rest) write(`   ${"".padEnd(WHO_CHARS)} ${line}`);
  };
  return {
    title: (text) => write(`\n${text}\n${"=".repeat(text.length)}`),
    step: (text) => write(`\n${++steps}. ${text}\n`),
    say,
    response: (response) => {
      for (const item of response.output) say("consentry", describe(item));
    },
  };
}

const WHO_CHARS = 10;
const TYPE_CHARS = 20;

/** The item that asks for a person's consent. Foundry's, and so the client's types have no name for it. */
export type ConsentItem = {
  type: "oauth_consent_request";
  id: string;
  consent_link: string;
  server_label: string;
};

export function consentsOf({ output }: Pick<Response, "output">): ConsentItem[] {
  return output.flatMap((item) => consentOf(item) ?? []);
}

function consentOf(item: { type: string }): ConsentItem | null {
  // Seam: its type says what it is.
  return item.type === "oauth_consent_request" ? (item as ConsentItem) : null;
}

function describe(item: Response["output"][number]): string {
  const consent = consentOf(item);
  if (consent) return line(consent.type, `${consent.server_label}: ${shortenLink(consent.consent_link)}`);
  switch (item.type) {
    case "mcp_list_tools":
      return line(
        "mcp_list_tools",
        `${item.server_label}: ${item.error ?? item.tools.map(({ name }) => name).join(", ")}`,
      );
    case "mcp_call":
      return line(
        item.type,
        `${item.name}(${item.arguments}) ${item.status} -> ${JSON.stringify(item.output ?? item.error)}`,
      );
    case "mcp_approval_request":
      return line(item.type, `${item.name}(${item.arguments})  ${shorten(item.id)}`);
    case "message":
      return line(
        item.type,
        shortenLink(
          item.content.map((part) => (part.type === "output_text" ? part.text : part.refusal)).join(""),
        ),
      );
    default:
      return item.type;
  }
}

function line(type: string, text: string): string {
  return `${type.padEnd(TYPE_CHARS)} ${text}`;
}

/** Whoever has a link may open it: a transcript shows where it leads, and no more. */
export function shortenLink(link: string): string {
  return link.replace(/(?<=\/consent\/.{13})[^\s)]+/, "…");
}

export function shorten(id: string): string {
  return `${id.slice(0, 13)}…`;
}
