import { cp, glob, mkdir } from "node:fs/promises";
import { basename, join } from "node:path";

export type Instruction = { name: string; text: string };
export type Stage = { image: string; name: string | null; instructions: Instruction[] };
export type Copy = { from: string | null; sources: string[]; target: string };

/** The stages of a Dockerfile, as far as ours goes: continued lines, comments on lines of their own. */
export function readDockerfile(text: string): Stage[] {
  const lines = text
    .replaceAll(/^\s*#.*\n/gm, "")
    .replaceAll(/\\\n\s*/g, "")
    .split("\n")
    .filter((line) => line.trim() !== "");
  const stages: Stage[] = [];
  for (const line of lines) {
    const [, name = "", rest = ""] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
    if (name !== "FROM") {
      stages.at(-1)?.instructions.push({ name, text: rest });
      continue;
    }
    const [, image = "", alias = null] = /^(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?$/.exec(rest) ?? [];
    stages.push({ image, name: alias, instructions: [] });
  }
  return stages;
}

export function textsOf(stage: Stage, name: string): string[] {
  return stage.instructions.filter((instruction) => instruction.name === name).map(({ text }) => text);
}

export function copiesOf(stage: Stage): Copy[] {
  return textsOf(stage, "COPY").map((text) => {
    const words = text.split(/\s+/);
    const from = words.find((word) => word.startsWith("--from="))?.slice("--from=".length) ?? null;
    const paths = words.filter((word) => !word.startsWith("--"));
    return { from, sources: paths.slice(0, -1), target: paths.at(-1) ?? "" };
  });
}

export function environmentOf(stage: Stage): Record<string, string> {
  const pairs = textsOf(stage, "ENV").flatMap((text) => text.split(/\s+/));
  return Object.fromEntries(pairs.map((pair) => [pair.split("=")[0], pair.split("=").slice(1).join("=")]));
}

/** The command of an instruction in exec form. Throws where it is not: a shell would stand between us and signals. */
export function execOf(text: string): string[] {
  const words: unknown = JSON.parse(text.replace(/^.*?CMD\s+/, ""));
  if (!Array.isArray(words) || !words.every((word) => typeof word === "string")) throw new Error(text);
  return words;
}

/** Does what COPY does, from folders that stand for what is named. Throws for a source that is not there. */
export async function copy(
  { sources, target }: Copy,
  { workdir, locate }: { workdir: string; locate: (source: string) => string },
): Promise<void> {
  const folder = join(workdir, target);
  for (const source of sources) {
    const found: string[] = [];
    for await (const path of glob(locate(source))) found.push(path);
    if (found.length === 0) throw new Error(`COPY ${source}: there is no such thing`);
    await mkdir(folder, { recursive: true });
    for (const path of found) {
      // A folder is copied as what is in it, a file by its name (Dockerfile reference, COPY).
      const isFile = target.endsWith("/") && (source.includes("*") || /\.\w+$|LICENSE$/.test(source));
      await cp(path, isFile ? join(folder, basename(path)) : folder, { recursive: true });
    }
  }
}
