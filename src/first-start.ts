import { existsSync } from "node:fs";
import { chmod, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { putBootstrapKey } from "./bootstrap.ts";
import type { Config } from "./config.ts";
import type { Clock, Log, World } from "./core/ports.ts";
import type { Store } from "./core/storage.ts";
import { isPlaceholder, type Keyring, KeyringError, parseKeyring } from "./secrets/keyring.ts";
import { ensureKeyringFile, readKeyringFile } from "./secrets/keyring.node.ts";
import { openVaultKeyring, type WatchedKeys } from "./secrets/keyring-vault.ts";
import { keysOf } from "./secrets/keys.ts";
import type { Vaults } from "./secrets/keyvault.ts";
import { parseSecretId } from "./secrets/secret-ids.ts";

// What the first start on Node makes: the keyring and the bootstrap key. Part of the door `node.ts`.

/** The keys that seal, from wherever they are kept. Throws `KeyringError`. */
export async function loadKeys(
  config: Config,
  { store, vaults, clock, log }: { store: Store; vaults: Vaults; clock: Clock; log: Log },
): Promise<WatchedKeys> {
  const { keyring } = config;
  if (keyring.kind === "vault") {
    const secret = parseSecretId(keyring.secret);
    if (!secret) throw new KeyringError([`${keyring.secret} is no secret of a vault`]);
    return openVaultKeyring({ secret, vaults, clock, log });
  }
  const fixed = await loadKeyring({ keyring, database: config.database }, store);
  for (const key of fixed.filter(isPlaceholder)) log("warn", "keyring_placeholder", { keyId: key.id });
  return { ...keysOf(fixed), watch: () => ({ stop: async () => {} }) };
}

type Kept = { keyring: Exclude<Config["keyring"], { kind: "vault" }>; database: Config["database"] };

/** A new keyring is for a new database: what an old one holds would be lost for good behind a key that is not its own. */
async function loadKeyring({ keyring, database }: Kept, store: Store): Promise<Keyring> {
  if (keyring.kind === "inline") return parseKeyring(keyring.text);
  if (!keyring.create) return readKeyringFile(keyring.path);
  // In this order: another program that starts at the same time makes the keyring first.
  const isUsed = (await store.keys.getBootstrap()) !== null;
  if (isUsed && !existsSync(keyring.path)) {
    const what = database.kind === "sqlite" ? database.path : "the database";
    throw new KeyringError([
      `${keyring.path} is missing, and ${what} was sealed with it. Put it back, or begin with a new database`,
    ]);
  }
  return (await ensureKeyringFile(keyring.path)).keyring;
}

/**
 * The first key (DESIGN 5): configured, or made at the first start on loopback. On loopback it may do everything, off
 * loopback it is an operator's and has the role admin only. Gives the key if it was made now.
 */
export async function ensureBootstrap(world: World, config: Config): Promise<string | null> {
  const known = await world.store.keys.getBootstrap();
  if (config.adminKey === null && known) return null;
  if (config.adminKey !== null && config.adminKey.length < STRONG_KEY_CHARS)
    world.log("warn", "admin_key_short", {});
  const secret = config.adminKey ?? `csk_${world.crypto.randomText(32)}`;
  // First of all: were it kept before, and the process died here, nobody would ever have it.
  if (config.adminKey === null) await handOver(secret, config);
  await putBootstrapKey(world, secret);
  // It would be taken for the key that counts.
  if (config.adminKey !== null) await rm(keyFile(config), { force: true });
  return config.adminKey === null ? secret : null;
}

/** 32 bytes in base64. Shorter ones are accepted on loopback. */
const STRONG_KEY_CHARS = 43;

/** A terminal shows the key once; without one it goes to a file that only its owner reads, never to a log. */
async function handOver(secret: string, config: Config): Promise<void> {
  if (process.stdout.isTTY) {
    console.log(`\nYour key, shown this once (it may do everything here):\n\n  ${secret}\n`);
    return;
  }
  const path = keyFile(config);
  await writeFile(path, `${secret}\n`, { mode: 0o600 });
  await chmod(path, 0o600);
  console.log(`The key of this broker is in ${path}`);
}

const keyFile = (config: Config) => join(dataFolder(config), "admin-key");

/** Where files of the broker's own are kept: beside the database, if it is one. */
export function dataFolder({ database }: Config): string {
  return database.kind === "sqlite" ? dirname(database.path) : ".";
}
