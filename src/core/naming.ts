import type { World } from "./ports.ts";

/** What every Chat Completions upstream accepts as a function's name. */
const MAX_NAME_CHARS = 64;
const HASH_CHARS = 8;

/** Finds the name under which a model knows a tool of a server, and back. */
export type ToolNames = {
  nameOf: (label: string, tool: string) => Promise<string>;
  /** Null: no tool was given this name. */
  meantBy: (name: string) => { label: string; tool: string } | null;
};

/**
 * `{label}__{tool}`, so that tools of two servers never collide. Where that is no name, too long or taken, the end is a
 * hash of label and tool instead of a cut: two tools never share a name.
 *
 * `taken`: names that are spoken for, those of the client's own functions.
 */
export function createToolNames(world: Pick<World, "crypto">, taken: readonly string[]): ToolNames {
  const meanings = new Map<string, { label: string; tool: string }>();
  const names = new Map<string, string>();
  const isFree = (name: string) => !taken.includes(name) && !meanings.has(name);

  async function choose(label: string, tool: string): Promise<string> {
    const plain = `${label}__${tool}`;
    const clean = plain.replace(/[^a-zA-Z0-9_-]/g, "_");
    if (clean === plain && plain.length <= MAX_NAME_CHARS && isFree(plain)) return plain;
    const hash = await world.crypto.sha256(JSON.stringify([label, tool]));
    const short = `${clean.slice(0, MAX_NAME_CHARS - HASH_CHARS - 1)}_${hash.slice(0, HASH_CHARS)}`;
    // A server may have named a tool like another's shortened name: then nothing readable is left to trust.
    return isFree(short) ? short : `tool_${hash.slice(0, MAX_NAME_CHARS - "tool_".length)}`;
  }

  return {
    nameOf: async (label, tool) => {
      const key = JSON.stringify([label, tool]);
      const known = names.get(key);
      if (known !== undefined) return known;
      const name = await choose(label, tool);
      names.set(key, name);
      meanings.set(name, { label, tool });
      return name;
    },
    meantBy: (name) => meanings.get(name) ?? null,
  };
}
