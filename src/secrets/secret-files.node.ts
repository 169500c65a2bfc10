import { constants } from "node:fs";
import { open, realpath } from "node:fs/promises";
import { sep } from "node:path";
import { codeOf } from "./files.node.ts";
import type { VaultOutcome } from "./keyvault.ts";

/** Reads files that hold one secret each. */
export type SecretFiles = (path: string, within: string | null) => Promise<VaultOutcome<string>>;

/**
 * A file's text without the line end behind it. Links are followed, as those of mounted secrets must be; where a folder was
 * lent (`within`), not out of it. `own`: files of the broker's own, which are nobody else's, whatever leads there.
 */
export function createSecretFiles(own: readonly string[]): SecretFiles {
  return async (path, within) => {
    try {
      const real = await realpath(path);
      if (within !== null && !real.startsWith((await realpath(within)) + sep))
        return refused("it leads out of its folder");
      const kept = await Promise.all(own.map((file) => realpath(file).catch(() => file)));
      if (kept.includes(real)) return refused("it is a file of the broker's own");
      return await read(real);
    } catch (error) {
      const code = codeOf(error);
      const isMissing = code === "ENOENT" || code === "ENOTDIR";
      return isMissing
        ? { ok: false, failure: { kind: "missing", why: "there is no such file", waitMs: 0 } }
        : { ok: false, failure: { kind: "away", why: `it cannot be read (${code})`, waitMs: 0 } };
    }
  };
}

async function read(real: string): Promise<VaultOutcome<string>> {
  // Without waiting for somebody to write into a pipe.
  const file = await open(real, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = await file.stat();
    if (!stat.isFile()) return refused("it is no file");
    if (stat.size > MAX_BYTES) return refused(`it has more than ${MAX_BYTES} bytes`);
    const bytes = Buffer.alloc(stat.size);
    const { bytesRead } = await file.read(bytes, 0, stat.size, 0);
    return { ok: true, value: bytes.toString("utf8", 0, bytesRead).replace(/\r?\n$/, "") };
  } finally {
    await file.close();
  }
}

const MAX_BYTES = 64 * 1024;

function refused(why: string): VaultOutcome<string> {
  return { ok: false, failure: { kind: "forbidden", why, waitMs: 0 } };
}
