import { join } from "node:path";
import type { Config } from "./config.ts";
import { type BoxCounts, countBoxes, totalOf } from "./core/box-counts.ts";
import type { ResealOutcome } from "./core/reseal.ts";
import { dataFolder } from "./first-start.ts";
import type { Desk, Outside } from "./keys-desk.ts";
import { putFile } from "./secrets/files.node.ts";
import {
  editKeyringFile,
  keyringChangedAt,
  newSealingKey,
  removedPathOf,
  writeKeyring,
} from "./secrets/keyring-edit.node.ts";
import { REFRESH_MS } from "./secrets/keyring-file.node.ts";
import { type Keyring, KeyringError, parseKeyring, type SealingKey } from "./secrets/keyring.ts";
import { keyIdOf } from "./secrets/seal.ts";

/** 1: some boxes name a key that the keyring lacks. */
export async function listKeys({ keyring, store, say }: Desk): Promise<number> {
  const counts = await countBoxes(store.upkeep.boxes, { named: keyIdOf });
  for (const [at, { id }] of keyring.entries()) say(lineOf(id, at === 0 ? "seals" : "opens", counts));
  const missing = missingFrom(keyring, counts);
  for (const id of missing) say(lineOf(id, "is missing", counts));
  if (missing.length > 0) say("What a missing key has sealed opens when the key is put back.");
  return missing.length > 0 ? 1 : 0;
}

function lineOf(id: string, does: string, counts: BoxCounts): string {
  const places = Object.entries(counts[id] ?? {}).map(([place, count]) => `${place} ${count}`);
  const total = totalOf(counts, id);
  const boxes = `${total} ${total === 1 ? "box" : "boxes"}`;
  return `${id}  ${does}  ${boxes}${places.length > 0 ? `: ${places.join(", ")}` : ""}`;
}

const missingFrom = (keyring: Keyring, counts: BoxCounts) =>
  Object.keys(counts).filter((missing) => !keyring.some(({ id }) => id === missing));

/** A key is written where the keyring is kept, or said to a terminal, or put into a file; never into a log. */
export async function addKey(
  config: Config,
  outside: Outside,
  { isStandby }: { isStandby: boolean },
): Promise<number> {
  const { keyring } = config;
  const { say } = outside;
  const withKey = (keys: readonly SealingKey[], key: SealingKey) =>
    isStandby ? [...keys, key] : [key, ...keys];
  switch (keyring.kind) {
    case "file": {
      const key = newSealingKey();
      await editKeyringFile(keyring.path, (keys) => withKey(keys, key));
      say(`${key.id} is in ${keyring.path}. A running broker notices within 30 seconds.`);
      say(
        isStandby
          ? `It opens, and does not seal yet. When every replica has it: npm run keys -- use ${key.id}`
          : "It seals from then on, and the broker seals anew what older keys have sealed.",
      );
      return 0;
    }
    case "inline": {
      const key = newSealingKey();
      const value = writeKeyring(withKey(parseKeyring(keyring.text), key), ",");
      say(`Made ${key.id}. Set CONSENTRY_KEYRING to the new value, for every replica, and start them anew:`);
      if (outside.isTerminal) {
        say(`\n  ${value}\n`);
        return 0;
      }
      const path = join(dataFolder(config), "keyring-to-be");
      await putFile(path, `${value}\n`, 0o600);
      say(`it is in ${path}, readable by its owner only. Remove the file afterwards.`);
      return 0;
    }
    case "vault":
      outside.complain(
        `The keyring is in a vault: a new version of its secret is a new key. az keyvault secret set ${vaultWords(keyring.secret)} ` +
          '--value "$(openssl rand -base64 32)"',
      );
      return 1;
  }
}

/** Puts a key in front. The keyring must be a file; elsewhere it is written by hand. */
export async function useKey(config: Config, { say }: Outside, id: string): Promise<number> {
  const path = fileOf(config);
  await editKeyringFile(path, (keys) => {
    const key = keys.find((one) => one.id === id);
    if (!key) throw new KeyringError([`${path} has no key "${id}"`]);
    return [key, ...keys.filter((one) => one !== key)];
  });
  say(`${id} seals, from when the broker notices (within 30 seconds).`);
  return 0;
}

/** 1: something is not under the newest key afterwards, and is named. */
export async function resealAll(desk: Desk): Promise<number> {
  const { say, signal, resealer, keyring, store } = desk;
  const [newest, ...older] = keyring;
  const ended = await whenFree(desk, () =>
    resealer.all(signal, (place, { resealed }) => say(`${place}: ${resealed} sealed anew`)),
  );
  if (ended.how !== "ended") {
    say("Stopped. What is done is done; the broker goes on by itself.");
    return 1;
  }
  const { resealed, changed, unopened } = ended.counts;
  say(`${resealed} sealed anew under ${newest.id}, ${changed} changed meanwhile, ${unopened} did not open.`);
  const counts = await countBoxes(store.upkeep.boxes, { named: keyIdOf });
  const left = [...older.map(({ id }) => id), ...missingFrom(keyring, counts)].filter(
    (id) => totalOf(counts, id) > 0,
  );
  for (const id of left) say(lineOf(id, "is left", counts));
  return left.length > 0 ? 1 : 0;
}

async function whenFree(
  { clock, say, signal }: Outside,
  pass: () => Promise<ResealOutcome>,
): Promise<Exclude<ResealOutcome, { how: "elsewhere" }> | { how: "stopped" }> {
  for (let waits = 0; !signal.aborted; waits++) {
    const outcome = await pass();
    if (outcome.how !== "elsewhere") return outcome;
    if (waits === 0) say("A broker is sealing anew just now; waiting for it.");
    await clock.sleep(WAIT_MS, signal);
  }
  return { how: "stopped" };
}

/**
 * 1: the key stays, for it has sealed something that is still there, or may just now: a broker that has not looked at the file yet
 * seals under the key that was the first before.
 */
export async function removeKey(desk: Desk, id: string): Promise<number> {
  const { clock, complain, config, say } = desk;
  const path = fileOf(config);
  const readAt = await keyringChangedAt(path);
  const waitMs = readAt + SETTLED_MS - clock.now();
  if (waitMs > 0) {
    const why = "a broker may not have looked at it yet, and seal under another key than the first";
    complain(`${path} was changed just now: ${why}. Try again in ${Math.ceil(waitMs / 1_000)} seconds.`);
    return 1;
  }
  const sealed = await sealedUnder(desk, id);
  if (sealed !== null) {
    complain(`${sealed}. First: npm run keys -- reseal`);
    return 1;
  }
  await editKeyringFile(path, (keys, changedAt) => {
    const [newest, ...older] = keys;
    if (newest.id === id) throw new KeyringError([`${id} is the key that seals`]);
    if (!older.some((key) => key.id === id)) throw new KeyringError([`${path} has no key "${id}"`]);
    if (changedAt !== readAt) throw new KeyringError([`somebody else has changed ${path} meanwhile`]);
    return keys.filter((key) => key.id !== id);
  });
  // Counting takes as long as the database is large; who sealed behind it is seen now.
  const late = await sealedUnder(desk, id);
  const removedPath = await removedPathOf(path);
  if (late !== null) {
    complain(`${late} meanwhile. It goes back into ${path} (and is in ${removedPath}).`);
    await putBack(path, desk.keyring, id);
    return 1;
  }
  say(`${id} is out of ${path}, and kept in ${removedPath}. A running broker notices within 30 seconds.`);
  say(
    "Links to consents of the last hour, Idempotency-Keys of the last day and compacted pasts that it made end with it: " +
      `to keep them, put its line back at the end of ${path}.`,
  );
  return 0;
}

async function sealedUnder({ store }: Desk, id: string): Promise<string | null> {
  const counts = await countBoxes(store.upkeep.boxes, { named: keyIdOf });
  return totalOf(counts, id) > 0 ? lineOf(id, "has sealed", counts) : null;
}

async function putBack(path: string, keyring: Keyring, id: string): Promise<void> {
  await editKeyringFile(path, (keys) => [
    ...keys,
    ...keyring.filter((key) => key.id === id && !keys.some((there) => there.id === id)),
  ]);
}

function fileOf({ keyring }: Config): string {
  if (keyring.kind === "file") return keyring.path;
  const where = keyring.kind === "inline" ? "in the variable CONSENTRY_KEYRING" : "in a vault";
  throw new KeyringError([`it is ${where}, and is changed there`]);
}

function vaultWords(secret: string): string {
  const { hostname, pathname } = new URL(secret);
  return `--vault-name ${hostname.split(".")[0]} --name ${pathname.split("/")[2]}`;
}

const WAIT_MS = 2_000;
/** By then every broker that runs has looked at the file, and what it was sealing is written. */
const SETTLED_MS = 2 * REFRESH_MS;
