// What every file of deploy/ says of this repository is so.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { settings } from "../../src/config.ts";
import { deploy, recipe, recipeFiles } from "../helpers/deploy.ts";

const files = recipeFiles();

test.each(files)("%s names settings that there are", (file) => {
  const named = recipe(file).match(/CONSENTRY_[A-Z_]+/g) ?? [];
  // `CONSENTRY_MODEL_*`: all that begin so.
  const isKnown = (name: string) =>
    Object.keys(settings.shape).some((known) =>
      name.endsWith("_") ? known.startsWith(name) : known === name,
    );
  expect(named.filter((name) => !isKnown(name))).toEqual([]);
});

test.each(files.filter((file) => file.endsWith(".md")))("%s links to what there is", (file) => {
  const links = [...recipe(file).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)];
  const broken = links.filter(([, path = "", anchor]) => {
    const target = path === "" ? join(deploy, file) : join(deploy, dirname(file), path);
    return !existsSync(target) || (anchor !== undefined && !anchorsOf(target).includes(anchor));
  });
  expect(broken.map(([text]) => text)).toEqual([]);
});

test("no file holds what looks like a secret", () => {
  const random = /[A-Za-z0-9+/]{43}=|csk_[\w-]{20,}|-----BEGIN/;
  expect(files.filter((file) => random.test(recipe(file)))).toEqual([]);
});

/** The anchors of a document's headings, as GitHub makes them. */
function anchorsOf(path: string): string[] {
  return [...readFileSync(path, "utf8").matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(/\s/g, "-"),
  );
}
