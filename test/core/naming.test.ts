import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { createToolNames } from "../../src/core/naming.ts";

const world = {
  crypto: {
    sha256: (text: string) => createHash("sha256").update(text).digest("hex"),
    randomText: () => "",
  },
};

describe("names of tools for models", () => {
  test("tools of two servers with one name do not collide", async () => {
    const names = createToolNames(world, []);
    const a = await names.nameOf("github", "search");
    const b = await names.nameOf("jira", "search");
    expect(a).not.toBe(b);
    expect(names.meantBy(a)).toEqual({ label: "github", tool: "search" });
    expect(names.meantBy(b)).toEqual({ label: "jira", tool: "search" });
  });

  test("a label that swallows the separator does not reach another server's tool", async () => {
    const names = createToolNames(world, []);
    const a = await names.nameOf("a", "b__c");
    const b = await names.nameOf("a__b", "c");
    expect(a).not.toBe(b);
    expect(names.meantBy(b)).toEqual({ label: "a__b", tool: "c" });
  });

  test("long and odd names are shortened to what upstreams accept and mapped back", async () => {
    const names = createToolNames(world, []);
    const long = "x".repeat(90);
    const found = await Promise.all([
      names.nameOf("s", `${long}1`),
      names.nameOf("s", `${long}2`),
      names.nameOf("s", "a.b/ü"),
    ]);
    expect(new Set(found).size).toBe(3);
    for (const name of found) expect(name).toMatch(/^[a-zA-Z0-9_-]{1,64}$/);
    expect(names.meantBy(found[1] ?? "")).toEqual({ label: "s", tool: `${long}2` });
  });

  test("a tool named like another's shortened name is not taken for it", async () => {
    const names = createToolNames(world, []);
    const victim = await names.nameOf("s", "pay.bill");
    const thief = await names.nameOf("s", victim.replace("s__", ""));
    expect(thief).not.toBe(victim);
    expect(names.meantBy(victim)).toEqual({ label: "s", tool: "pay.bill" });
  });

  test("the client's own functions keep their names", async () => {
    const names = createToolNames(world, ["github__search"]);
    expect(await names.nameOf("github", "search")).not.toBe("github__search");
    expect(names.meantBy("github__search")).toBeNull();
  });
});
