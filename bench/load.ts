import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** One request that is made over and over. With `users`, each is made for the next of them. */
export type Call = {
  url: string;
  headers: Record<string, string>;
  body: string;
  users?: readonly string[];
};

/** Milliseconds, and requests per second. */
export type Measured = { perS: number; p50Ms: number; p99Ms: number; requests: number };

const run = promisify(execFile);

/** Puts load on a server with wrk, which takes the least of the machine itself. Throws when any answer was not a success. */
export async function load(
  call: Call,
  { connections, seconds, folder }: { connections: number; seconds: number; folder: string },
): Promise<Measured> {
  const script = join(folder, "call.lua");
  await writeFile(script, luaOf(call));
  const { stdout } = await run("wrk", [
    "--threads=1",
    `--connections=${connections}`,
    `--duration=${seconds}s`,
    "--timeout=10s",
    `--script=${script}`,
    call.url,
  ]);
  const line = stdout.split("\n").find((text) => text.startsWith(MARK));
  const [requests = 0, us = 0, p50 = 0, p99 = 0, errors = 0] = (line ?? "")
    .slice(MARK.length)
    .split(" ")
    .map(Number);
  if (line === undefined || errors > 0)
    throw new Error(`${errors} of ${requests} calls of ${call.url} failed\n${stdout}`);
  return { perS: requests / (us / 1e6), p50Ms: p50 / 1e3, p99Ms: p99 / 1e3, requests };
}

/** Makes the call once, and gives the body of the answer. */
export async function once({ url, headers, body }: Call): Promise<string> {
  const answer = await fetch(url, { method: "POST", headers, body });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${text}`);
  return text;
}

function luaOf({ headers, body, users }: Call): string {
  const lines = Object.entries(headers).map(([name, value]) => `wrk.headers[${lua(name)}] = ${lua(value)}`);
  return `wrk.method = "POST"
wrk.body = ${lua(body)}
${lines.join("\n")}
${users ? luaForUsers(users) : ""}
function done(summary, latency)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  print(string.format("${MARK}%d %d %d %d %d", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors))
end
`;
}

// Each request is put together once: what makes them must cost little beside what answers.
const luaForUsers = (users: readonly string[]) => `local users = { ${users.map(lua).join(", ")} }
local made = {}
local at = 0
function request()
  at = at % #users + 1
  if not made[at] then
    wrk.headers["x-ms-user-identity"] = users[at]
    made[at] = wrk.format()
  end
  return made[at]
end`;

/** A text of Lua's: JSON's escapes are read as Lua's own, as far as these texts have any. */
const lua = (text: string) =>
  `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`;

const MARK = "measured ";
