/** Asks the broker something. Throws for a status other than the one awaited (200). `header` adds to the caller's own. */
export type Ask = (
  method: string,
  path: string,
  given?: { body?: object; header?: Record<string, string>; status?: number; signal?: AbortSignal },
) => Promise<string>;

/** Who asks: the runtime for a user named so, or the admin. */
export type Callers = { as: (user: string) => Ask; admin: Ask };

/** What one round of a kind does; `round` counts them. Throws when something else came than what should. */
export type Kind = (callers: Callers, round: number) => Promise<void>;

/** How many people are asked for consent, over and over: each is a user and a consent, and no more of them come. All are soon there. */
const ASKED_PEOPLE = 5;

/** Every way to call that there is, as far as it leaves something behind. `ann` has given her consent, the others not. */
export const KINDS: Record<string, Kind> = {
  "by a key": ({ as }) => says(as("ann")("POST", R, { body: explicit("by-key") }), "a short answer"),
  "with a user's account": ({ as }) =>
    says(as("ann")("POST", R, { body: explicit("by-oauth") }), "a short answer"),
  streamed: ({ as }) =>
    says(as("ann")("POST", R, { body: { ...explicit("open"), stream: true } }), "response.completed"),
  listed: ({ as }) =>
    says(as("ann")("POST", R, { body: { tools: [free("open")], store: false } }), "mcp_list_tools"),
  "by a model, chat": ({ as }) => says(as("ann")("POST", R, { body: turn("m") }), "It is done."),
  "by a model, responses": ({ as }) => says(as("ann")("POST", R, { body: turn("deep/m") }), "It is done."),
  "by a model, chat, streamed": ({ as }) =>
    says(as("ann")("POST", R, { body: { ...turn("m"), stream: true } }), "response.completed"),
  "by a model, responses, streamed": ({ as }) =>
    says(as("ann")("POST", R, { body: { ...turn("deep/m"), stream: true } }), "response.completed"),
  approved: (callers) => decide(callers, true),
  denied: (callers) => decide(callers, false),
  "consent asked": ({ as }, round) =>
    says(
      as(`asked-${round % ASKED_PEOPLE}`)("POST", R, { body: explicit("by-oauth") }),
      "oauth_consent_request",
    ),
  "a tool fails": ({ as }) =>
    says(as("ann")("POST", R, { body: explicit("open", "complain") }), "a short answer"),
  "a server fails": ({ as }) => says(as("ann")("POST", R, { body: explicit("open", "break") }), "500"),
  "a server hangs up": ({ as }) =>
    says(as("ann")("POST", R, { body: explicit("open", "hang_up") }), '"error":{'),
  "a caller hangs up": ({ as }) => leave(as("ann"), { ...explicit("open", "slow") }),
  "a caller hangs up, streamed": ({ as }) => leave(as("ann"), { ...explicit("open", "slow"), stream: true }),
  "kept and deleted": async ({ as }) => {
    const kept = await as("ann")("POST", R, { body: { ...explicit("open"), store: true } });
    await says(as("ann")("DELETE", `${R}/${idOf(kept)}`), "true");
  },
  "gone on with": async ({ as }) => {
    const first = await as("ann")("POST", R, { body: { ...turn("m"), store: true } });
    const body = { ...turn("m"), store: true, previous_response_id: idOf(first) };
    await says(as("ann")("POST", R, { body }), "It is done.");
  },
  "in a conversation": async ({ as }) => {
    const conversation = idOf(await as("ann")("POST", `${V1}/conversations`, { body: {} }));
    const body = { ...turn("m"), store: true, conversation };
    const response = await as("ann")("POST", R, { body });
    await as("ann")("DELETE", `${V1}/conversations/${conversation}`);
    await says(as("ann")("DELETE", `${R}/${idOf(response)}`), "true");
  },
  "repeated by a key": async ({ as }, round) => {
    const header = { "idempotency-key": `soak-${round}` };
    const first = await as("ann")("POST", R, { body: explicit("open"), header });
    const again = await as("ann")("POST", R, { body: explicit("open"), header });
    if (idOf(first) !== idOf(again)) throw new Error("it ran twice");
  },
  "in the background": async ({ as }) => {
    const ask = as("ann");
    let said = await ask("POST", R, { body: background("echo") });
    const id = idOf(said);
    while (["queued", "in_progress"].includes(statusOf(said))) said = await ask("GET", `${R}/${id}`);
    if (!said.includes("a short answer")) throw new Error(`in the background came ${said}`);
    await says(ask("DELETE", `${R}/${id}`), "true");
  },
  "in the background, streamed": async ({ as }) => {
    const ask = as("ann");
    const said = await ask("POST", R, { body: { ...background("echo"), stream: true } });
    const id = /resp_[0-9a-f]+/.exec(said)?.[0];
    if (!said.includes("response.completed")) throw new Error(`in the background came ${said}`);
    await says(ask("GET", `${R}/${id}?stream=true&starting_after=1`), "response.completed");
    await says(ask("DELETE", `${R}/${id}`), "true");
  },
  "in the background, cancelled": async ({ as }) => {
    const ask = as("ann");
    const id = idOf(await ask("POST", R, { body: background("stuck") }));
    await says(ask("POST", `${R}/${id}/cancel`), '"status":"cancelled"');
    await says(ask("DELETE", `${R}/${id}`), "true");
  },
  counted: ({ as }) =>
    says(as("ann")("POST", `${R}/input_tokens`, { body: { model: "m", input: "hello" } }), "input_tokens"),
  refused: ({ as }, round) =>
    says(as("ann")("POST", R, { body: explicit(`unknown-${round}`), status: 400 }), '"error"'),
  "by a stranger": ({ as }, round) => {
    const header = { authorization: `Bearer csk_none${round}` };
    return says(as("ann")("POST", R, { body: explicit("open"), header, status: 401 }), '"error"');
  },
  scraped: ({ admin }) => says(admin("GET", "/metrics"), "consentry_"),
};

const V1 = "/api/projects/default/openai/v1";
const R = `${V1}/responses`;
const free = (label: string) => ({ type: "mcp", server_label: label, require_approval: "never" });

function explicit(label: string, name = "echo") {
  const call = { type: "mcp_call", status: "calling", id: "mcp_1", server_label: label, name };
  return { store: false, tools: [free(label)], input: [{ ...call, arguments: '{"text":"hello"}' }] };
}

const background = (name: string) => ({ ...explicit("open", name), background: true, store: true });

function turn(model: string) {
  return { store: false, model, input: "Do it.", tools: [free("open")] };
}

async function says(answer: Promise<string>, text: string): Promise<void> {
  const said = await answer;
  if (!said.includes(text)) throw new Error(`"${text}" is not in ${said}`);
}

const idOf = (answer: string) => (JSON.parse(answer) as { id: string }).id;
const statusOf = (answer: string) => (JSON.parse(answer) as { status: string }).status;

async function decide({ as }: Callers, approve: boolean): Promise<void> {
  const ask = as("ann");
  const tools = [{ ...free("open"), require_approval: "always" }];
  const held = await ask("POST", R, { body: { ...explicit("open"), tools, store: true } });
  const request = /mcpr_[0-9a-f]+/.exec(held)?.[0];
  if (request === undefined) throw new Error(`nothing is held: ${held}`);
  const input = [{ type: "mcp_approval_response", approval_request_id: request, approve }];
  const done = await ask("POST", R, { body: { previous_response_id: idOf(held), input } });
  if (approve !== done.includes("a short answer")) throw new Error(`decided, and then ${done}`);
}

/** Asks, and is gone while the tool still works. */
async function leave(ask: Ask, body: object): Promise<void> {
  const gone = AbortSignal.timeout(LEAVES_AFTER_MS);
  await ask("POST", R, { body, signal: gone }).catch((error: unknown) => {
    if (!gone.aborted) throw error;
  });
}

const LEAVES_AFTER_MS = 40;
