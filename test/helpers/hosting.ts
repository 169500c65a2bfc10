import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { blocksOf, blockThatBegins, type CodeBlock, type DocumentProcess, runFiles } from "./documents.ts";
import { startHttpServer } from "./http-server.ts";
import { call, itemsOf, type TestWorld } from "./world.ts";

/** The code of docs/hosting.md. */
export type Hosting = {
  blocks: CodeBlock[];
  /** The one block that begins so. */
  block: (beginning: string) => string;
  /** The complete server as it stands, with what its parts import; parts are put in their places as the document says. */
  filesWith: (...parts: string[]) => Record<string, string>;
};

export async function readHosting(): Promise<Hosting> {
  const blocks = await blocksOf("hosting.md");
  const block = (beginning: string) => blockThatBegins(blocks, beginning);
  const [server, tokens] = [block("// server.mjs\n"), block("// tokens.mjs\n")];
  return {
    blocks,
    block,
    filesWith: (...parts) => ({ "server.mjs": parts.reduce(replacePart, server), "tokens.mjs": tokens }),
  };
}

/** "In place of `serverFor`", "in place of the line `const admit = …`", "in place of all that follows `answer`". */
function replacePart(code: string, part: string): string {
  const kind = /^\/\/ (\w+):/.exec(part)?.[1] ?? "";
  const place = PLACES[kind];
  if (!place?.test(code)) throw new Error(`the server has no place for "${kind}"`);
  return code.replace(place, () => part);
}

const PLACES: Record<string, RegExp> = {
  serverFor: /^function serverFor\(\) \{\n[\s\S]*?^\}\n/m,
  admit: /^const admit = .*\n/m,
  lambda: /^const server = createServer\([\s\S]*/m,
};

export type Host = {
  /** Runs `server.mjs` of the files until `stop`. */
  run: typeof runFiles;
  later: <T extends { stop: () => Promise<unknown> }>(started: T) => T;
  /** Stops everything that it was given. */
  stop: () => Promise<void>;
};

/** What one test starts. */
export function createHost(): Host {
  const stops: (() => Promise<unknown>)[] = [];
  const later: Host["later"] = (started) => {
    stops.push(started.stop);
    return started;
  };
  return {
    later,
    run: async (...given) => later(await runFiles(...given)),
    stop: async () => {
      for (const stop of stops.splice(0).toReversed()) await stop();
    },
  };
}

export const targetOf = ({ port }: Pick<DocumentProcess, "port">) => `http://127.0.0.1:${port}/mcp`;

/** Connects the server under a name, and gives the cause that `:validate` names. */
export async function causeOf(
  world: TestWorld,
  server: DocumentProcess,
  connection: { name: string; properties?: Record<string, unknown> },
): Promise<string> {
  const { name, properties = {} } = connection;
  const made = await world.connect(name, { target: targetOf(server), ...properties });
  if (made.status !== 200) throw new Error(JSON.stringify(made.body));
  const validated = await world.rest("POST", `/api/projects/default/connections/${name}:validate`);
  return String(validated.body["cause"]);
}

/** The properties of a connection that sends this header, or this token. */
export const withHeader = (name: string, value: string) => ({
  authType: "CustomKeys",
  credentials: { keys: { [name]: value } },
});
export const withToken = (token: string) => withHeader("Authorization", `Bearer ${token}`);

/** What a tool says to an explicit call. Null: the call failed. */
export async function outputOf(
  client: Awaited<ReturnType<TestWorld["runtime"]>>,
  label: string,
  { tool, args = {} }: { tool: string; args?: Record<string, unknown> },
): Promise<string | null> {
  const tools = [{ type: "mcp" as const, server_label: label, require_approval: "never" as const }];
  const response = await client.responses.create({ tools, input: [call(label, tool, args)] });
  return itemsOf(response, "mcp_call")[0]?.output ?? null;
}

export type KeyIssuer = {
  url: string;
  knobs: { down: boolean };
  /** A token of ten minutes; `iss` is this issuer unless the claims say otherwise. */
  sign: (claims: JWTPayload) => Promise<string>;
  stop: () => Promise<void>;
};

/** An issuer whose public keys are where the broker's are. */
export async function startKeyIssuer(): Promise<KeyIssuer> {
  const { privateKey, publicKey } = await generateKeyPair("RS256");
  const keys = [{ ...(await exportJWK(publicKey)), kid: "k1", alg: "RS256", use: "sig" }];
  const knobs = { down: false };
  const { url, stop } = await startHttpServer(({ path }, response) => {
    const isThere = path === "/.well-known/jwks.json" && !knobs.down;
    response.writeHead(isThere ? 200 : 503, { "content-type": "application/json" });
    response.end(JSON.stringify({ keys }));
  });
  const sign = async (claims: JWTPayload) => {
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({ iss: url, iat: now, exp: now + 600, ...claims })
      .setProtectedHeader({ alg: "RS256", typ: "JWT", kid: "k1" })
      .sign(privateKey);
  };
  return { url, knobs, sign, stop };
}
