import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parse, parseAllDocuments } from "yaml";

/** Where the recipes are. */
export const deploy = join(import.meta.dirname, "../../deploy");

export const recipe = (path: string) => readFileSync(join(deploy, path), "utf8");

/** Every file of the recipes, by its path there. What a person makes there (`.env`, `secrets/`) is none. */
export function recipeFiles(): string[] {
  return readdirSync(deploy, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(deploy, join(entry.parentPath, entry.name)))
    .filter((path) => !/(^|\/)(secrets\/|\.env$)/.test(path));
}

export type Service = {
  image: string;
  command?: string[];
  user?: string;
  environment?: Record<string, string>;
  secrets?: string[];
  networks: string[] | Record<string, { ipv4_address?: string }>;
  volumes?: string[];
  ports?: string[];
  tmpfs: string[];
  read_only: boolean;
  cap_drop: string[];
  cap_add?: string[];
  security_opt: string[];
  stop_grace_period: string;
  healthcheck?: { test: string[] };
  build?: string;
};

export type Compose = {
  services: Record<string, Service>;
  secrets: Record<string, { file: string }>;
  networks: Record<string, { internal?: boolean }>;
};

/** compose.yaml as Compose reads it, with these variables of `.env`. Throws for one that it requires. */
export function readCompose(env: Record<string, string | undefined>): Compose {
  const filled = (text: string) =>
    text.replaceAll(/\$\{(\w+):([-?])([^}]*)\}/g, (_, name: string, kind: string, rest: string) => {
      const value = env[name];
      if (value) return value;
      if (kind === "?") throw new Error(`${name}: ${rest}`);
      return rest;
    });
  // In values, after the YAML was read: what is empty stays a text.
  const reviver = (_: unknown, value: unknown) => (typeof value === "string" ? filled(value) : value);
  // Seam: the tests say what is not so.
  return parse(recipe("compose/compose.yaml"), reviver, { merge: true }) as Compose;
}

export type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
} & Record<string, unknown>;

/** The objects of a file of the recipes. Throws for what is not YAML. */
export const readManifests = (path: string) => manifestsOf(recipe(path));

/** The objects of YAML documents, read as Kubernetes does (YAML 1.1: `0440` is octal). Throws for what is not YAML. */
export function manifestsOf(text: string): Manifest[] {
  return [...parseAllDocuments(text, { version: "1.1" })].map((document) => {
    if (document.errors.length > 0) throw new Error(document.errors.join("; "));
    return document.toJS() as Manifest; // Seam: the tests say what is not so.
  });
}
