import assert from "node:assert/strict";
import OpenAI from "openai";
import type { Response } from "openai/resources/responses/responses";
import { createRemoteJWKSet, jwtVerify } from "jose";
import type { Passthrough, Stage } from "./passthrough.ts";

/**
 * One server, reached by a key, as the project, as an agent of it, and as each of two people: whom it saw each time. It knows
 * the broker by its address alone.
 */
export async function tellIdentities(stage: Stage, people: Passthrough): Promise<void> {
  const { url, admin, runtimeKey, transcript } = stage;
  const { step, say } = transcript;
  const { server } = people;

  step(
    "The same server also takes a key, and the broker's word for its project and its agents. Whom does it see?",
  );
  server.knobs.others = createDoorkeeper(url, stage.now);
  const reach = (name: string, properties: Record<string, unknown>) =>
    admin("PUT", `connections/${name}`, {
      properties: { category: "RemoteTool", target: server.url, ...properties },
    });
  await reach("by-key", { authType: "CustomKeys", credentials: { keys: { "x-api-key": API_KEY } } });
  await reach("as-project", { authType: "ProjectManagedIdentity", audience: AUDIENCE });
  await reach("as-agent", { authType: "AgenticIdentityToken", audience: AUDIENCE });
  await admin("POST", "agents", {
    name: AGENT,
    identity: "own",
    definition: {
      kind: "prompt",
      model: "demo",
      tools: [{ type: "mcp", server_label: "as-agent", require_approval: "never" }],
    },
  });
  say("admin", `an agent '${AGENT}' with an identity of its own; the server trusts ${url} for ${AUDIENCE}`);

  const openai = new OpenAI({ baseURL: `${url}/api/projects/default/openai/v1`, apiKey: runtimeKey });
  const bySelf = (label: string) =>
    openai.responses.create({
      tools: [{ type: "mcp", server_label: label, require_approval: "never" }],
      input: [
        {
          type: "mcp_call",
          id: `call_${label}`,
          server_label: label,
          name: "whoami",
          arguments: "{}",
          status: "calling",
        },
      ],
    });
  // `agent_reference` is Foundry's, which the package has no name for.
  const asAgent = () =>
    openai.responses.create(WHO, {
      body: { ...WHO, agent_reference: { type: "agent_reference", name: AGENT } },
    });

  const saw = {
    "by a key": outputOf(await bySelf("by-key")),
    "as the project": outputOf(await bySelf("as-project")),
    [`as the agent ${AGENT}`]: outputOf(await asAgent()),
    "as Ann": outputOf(await people.askAs("ann")),
    "as Bob": outputOf(await people.askAs("bob")),
  };
  for (const [how, whom] of Object.entries(saw)) say("server", `reached ${how.padEnd(25)} saw ${whom}`);
  assert.deepEqual(Object.values(saw), [
    "the holder of the demo key",
    "project:default",
    `project:default:agent:${AGENT}`,
    "ann@team.example",
    "bob@team.example",
  ]);

  step("whoami says the same before anything is called: what an admin gives rights to at the server.");
  const { value } = (await admin("GET", `whoami?agent=${AGENT}`)) as { value: Presented[] };
  for (const { connection, presents } of value) {
    say(
      "whoami",
      `${connection.padEnd(12)} ${presents.kind.padEnd(9)} ${presents.principal?.subject ?? ""}`.trimEnd(),
    );
  }
  const subjects = value.flatMap(({ presents }) => presents.principal?.subject ?? []);
  assert.deepEqual(subjects, [saw[`as the agent ${AGENT}`], saw["as the project"]]);
}

type Presented = { connection: string; presents: { kind: string; principal?: { subject: string } } };

const AGENT = "bookkeeper";
const AUDIENCE = "api://team-notes";
const API_KEY = crypto.randomUUID();
const WHO = { model: "demo", input: "who am I, over there?" };

/** What it takes to trust a broker: its address, and the audience that one answers to. */
function createDoorkeeper(broker: string, now: () => number): (headers: Headers) => Promise<string | null> {
  const keys = createRemoteJWKSet(new URL(`${broker}/.well-known/jwks.json`));
  const expected = { issuer: broker, audience: AUDIENCE };
  return async (headers) => {
    if (headers.get("x-api-key") === API_KEY) return "the holder of the demo key";
    const token = headers.get("authorization")?.replace(/^Bearer /, "") ?? "";
    const currentDate = new Date(now());
    const verified = await jwtVerify(token, keys, { ...expected, currentDate }).catch(() => null);
    return verified?.payload["token_use"] === "workload" ? String(verified.payload.sub) : null;
  };
}

function outputOf({ output }: Response): string {
  return String(output.find((item) => item.type === "mcp_call")?.output);
}
