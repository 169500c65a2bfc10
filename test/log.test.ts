import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createLog } from "../src/log.ts";
import { createMetrics } from "../src/telemetry/metrics.ts";

test("lines that nobody takes in time are lost, and each is counted", async () => {
  const folder = mkdtempSync(join(tmpdir(), "consentry-log-"));
  const path = join(folder, "log");
  const metrics = createMetrics(() => performance.now());
  const log = createLog(
    { logLevel: "info" },
    { dropped: metrics.lineDropped, fd: openSync(path, "w"), maxChars: 2_000 },
  );
  const dropped = async () => {
    const { text } = await metrics.read();
    return Number(/^consentry_log_lines_dropped_total (\d+)$/m.exec(text)?.[1]);
  };
  const written = () => readFileSync(path, "utf8").split("\n").filter(Boolean);
  expect(await dropped()).toBe(0);
  // All in one turn of the event loop, in which nothing is written but the first.
  for (let n = 0; n < 100; n++) log("info", "said", { n });
  await expect.poll(async () => written().length + (await dropped())).toBe(100);
  expect(await dropped()).toBeGreaterThan(50);
  // What comes when there is room is written.
  log("info", "said_later");
  await expect.poll(() => written().at(-1)).toContain("said_later");
  rmSync(folder, { recursive: true });
});
