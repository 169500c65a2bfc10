import { parseArgs } from "node:util";
import { type Config, ConfigError, parseConfig } from "./config.ts";
import { isRefusal } from "./core/errors.ts";
import { KeyringError } from "./secrets/keyring.ts";
import { addKey, listKeys, removeKey, resealAll, useKey } from "./keys-commands.ts";
import { type Desk, openDesk, type Outside } from "./keys-desk.ts";
import { systemClock } from "./system-clock.ts";

// The door of `npm run keys` (docs/keys.md): what an operator does about the keyring, with the settings of the broker.

const USAGE = `npm run keys -- <command>

  list             the keys, newest first, and how many boxes each has sealed
  add [--standby]  makes a key; in front of the others, or behind them, where it opens and does not seal yet
  use <id>         puts a key in front of the others
  reseal           seals everything anew that an older key has sealed, and waits for the end
  remove <id>      takes a key out that has sealed nothing which is still there`;

/** The command itself, on this process's terminal, until it is done or interrupted. */
export async function keysCommand(env: Record<string, string | undefined>, args: string[]): Promise<number> {
  const stopping = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stopping.abort());
  return keysMain(env, args, {
    say: (line) => console.log(line),
    complain: (line) => console.error(line),
    isTerminal: process.stdout.isTTY,
    signal: stopping.signal,
    clock: systemClock,
  });
}

/** Gives the exit code: 0, or 1 where something is still to be done. Never says a key but to a terminal. */
export async function keysMain(
  env: Record<string, string | undefined>,
  args: string[],
  outside: Outside,
): Promise<number> {
  const asked = read(args);
  if (!asked) {
    outside.complain(USAGE);
    return 1;
  }
  try {
    return await run(asked, parseConfig(env), outside);
  } catch (error) {
    outside.complain(explanationOf(error));
    return 1;
  }
}

type Asked =
  | { command: "list" | "reseal" }
  | { command: "add"; isStandby: boolean }
  | { command: "use" | "remove"; id: string };

function read(args: string[]): Asked | null {
  const parsed = parse(args);
  if (!parsed) return null;
  const { positionals, isStandby } = parsed;
  const [command, id, ...more] = positionals;
  if (more.length > 0 || (isStandby && command !== "add")) return null;
  if (command === "use" || command === "remove") return id === undefined ? null : { command, id };
  if (id !== undefined) return null;
  if (command === "add") return { command, isStandby };
  return command === "list" || command === "reseal" ? { command } : null;
}

function parse(args: string[]): { positionals: string[]; isStandby: boolean } | null {
  try {
    const options = { standby: { type: "boolean", default: false } } as const;
    const { positionals, values } = parseArgs({ args, options, allowPositionals: true });
    return { positionals, isStandby: values.standby };
  } catch {
    return null;
  }
}

async function run(asked: Asked, config: Config, outside: Outside): Promise<number> {
  switch (asked.command) {
    case "add":
      return addKey(config, outside, { isStandby: asked.isStandby });
    case "use":
      return useKey(config, outside, asked.id);
    case "list":
      return withDesk(config, outside, listKeys);
    case "reseal":
      return withDesk(config, outside, resealAll);
    case "remove":
      return withDesk(config, outside, (desk) => removeKey(desk, asked.id));
  }
}

async function withDesk(
  config: Config,
  outside: Outside,
  work: (desk: Desk) => Promise<number>,
): Promise<number> {
  const desk = await openDesk(config, outside);
  try {
    return await work(desk);
  } finally {
    await desk.close();
  }
}

function explanationOf(error: unknown): string {
  if (error instanceof ConfigError || error instanceof KeyringError) return error.message;
  if (isRefusal(error, "unavailable")) return `Not available: ${error.details.what}.`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
