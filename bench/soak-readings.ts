import { readdir, readlink } from "node:fs/promises";
import Database from "better-sqlite3";
import { connect } from "./inspector.ts";

/** What a broker holds at a moment at which nobody asks it anything. MiB; counts. */
export type Reading = {
  calls: number;
  rssMiB: number;
  heapMiB: number;
  /** Outside of the heap: buffers, and what native code says of itself. */
  externalMiB: number;
  /** By kind, as Node names what keeps it running. */
  handles: Record<string, number>;
  /** Open files by kind: sockets, files, pipes. */
  files: Record<string, number>;
  rows: Record<string, number>;
};

/** Reads a process by its inspector, after a collection, and by Linux's /proc; its database from outside. */
export async function read(
  { pid, inspectorPort, database }: { pid: number; inspectorPort: number; database: string },
  calls: number,
): Promise<Reading> {
  const inspector = await connect(inspectorPort);
  // Twice: what a first one finalizes, a second one takes away.
  for (let at = 0; at < 2; at++) await inspector.ask("HeapProfiler.collectGarbage");
  const { result } = (await inspector.ask("Runtime.evaluate", {
    expression: "JSON.stringify({ ...process.memoryUsage(), resources: process.getActiveResourcesInfo() })",
  })) as { result: { value: string } };
  inspector.close();
  const said = JSON.parse(result.value) as NodeJS.MemoryUsage & { resources: string[] };
  const mib = (bytes: number) => bytes / 1024 / 1024;
  return {
    calls,
    rssMiB: mib(said.rss),
    heapMiB: mib(said.heapUsed),
    externalMiB: mib(said.external),
    handles: counted(said.resources),
    files: counted(await filesOf(pid)),
    rows: rowsOf(database),
  };
}

async function filesOf(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`;
  const links = (await readdir(folder)).map((fd) => readlink(`${folder}/${fd}`).catch(() => null));
  const all = (await Promise.all(links)).filter((link) => link !== null);
  return all.map((link) => /^(socket|pipe|anon_inode)/.exec(link)?.[1] ?? "file");
}

function counted(names: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names.toSorted()) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

function rowsOf(path: string): Record<string, number> {
  const file = new Database(path, { readonly: true });
  try {
    const tables = file
      .prepare("select name from sqlite_master where type = 'table'")
      .pluck()
      .all()
      .map(String);
    return Object.fromEntries(
      tables.map((name) => [name, Number(file.prepare(`select count(*) from "${name}"`).pluck().get())]),
    );
  } finally {
    file.close();
  }
}
