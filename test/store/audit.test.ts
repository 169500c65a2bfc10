import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { EVERYTHING, entry, newProject } from "./things.ts";

onEveryEngine("audit", (replicas) => {
  test("entries come back as they were, newest first", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const full = entry(project, "tool_called", {
      at: 1_760_000_000_123,
      outcome: "failed",
      principal: "key:runtime",
      user: "app:ann",
      connection: "github",
      tool: "create_issue",
      agent: "helper",
      responseId: "resp_1",
      approvalId: "mcpr_1",
      requestId: "req_1",
      durationMs: 12,
      detail: { z: 1, code: "-32602", ok: false, none: null },
    });
    const bare = entry(project, "tool_refused");
    await a.audit.append([full, bare]);
    expect((await b.audit.list(project, {}, EVERYTHING)).rows).toEqual([bare, full]);
  });

  test("hundreds at once, and the same again changes nothing", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const entries = Array.from({ length: 250 }, () => entry(project, "tool_called"));
    await Promise.all([a.audit.append(entries), b.audit.append(entries)]);
    await a.audit.append([]);
    expect((await a.audit.list(project, {}, EVERYTHING)).rows).toEqual(entries.toReversed());
  });

  test("every filter narrows, and filters narrow together", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const wanted = {
      outcome: "refused",
      user: "app:ann",
      principal: "key:p",
      connection: "github",
      tool: "t",
      responseId: "resp_9",
      approvalId: "mcpr_9",
      requestId: "req_9",
    } as const;
    const match = entry(project, "tool_refused", { ...wanted, at: 5_000 });
    await a.audit.append([match, ...Array.from({ length: 5 }, () => entry(project, "tool_called"))]);
    const found = async (filter: Parameters<typeof a.audit.list>[1]) =>
      (await a.audit.list(project, filter, EVERYTHING)).rows;
    for (const [name, value] of Object.entries(wanted)) {
      expect(await found({ [name]: value })).toEqual([match]);
      expect(await found({ ...wanted, [name]: "else\u0000" })).toEqual([]);
    }
    expect(await found({ event: "tool_refused" })).toEqual([match]);
    expect(await found({ ...wanted, event: "tool_called" })).toEqual([]);
    expect(await found({ since: 5_000 })).toEqual([match]);
    expect(await found({ since: 5_001 })).toEqual([]);
    expect(await found({ until: 5_000 })).not.toContainEqual(match);
    expect(await found({ since: 5_000, until: 5_001 })).toEqual([match]);
    expect((await a.audit.list(await newProject(a), wanted, EVERYTHING)).rows).toEqual([]);
  });

  test("pages stay put while new entries come", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const old = Array.from({ length: 10 }, () => entry(project, "tool_called"));
    await a.audit.append(old);
    const seen: string[] = [];
    let after: string | null = null;
    for (;;) {
      const page: Awaited<ReturnType<typeof a.audit.list>> = await b.audit.list(
        project,
        {},
        { after, limit: 3 },
      );
      seen.push(...page.rows.map((row) => row.id));
      after = page.rows.at(-1)?.id ?? null;
      await a.audit.append([entry(project, "tool_called")]);
      if (!page.more) break;
    }
    expect(seen).toEqual(old.map((each) => each.id).toReversed());
  });

  test("whatever strangers write can be kept and found again", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const strings = [
      "\u0000",
      "a\u0000b\u0000",
      "\u001a",
      "\u001a0\u0000\u001a1",
      "\\u0000 \\0",
      "'; drop table audit; --",
      "😀 \u202e é e\u0301",
      "x".repeat(100_000),
    ];
    for (const text of strings) {
      const strange = entry(project, "tool_called", {
        tool: text,
        connection: text,
        agent: text,
        principal: text,
        user: `app:${text}`,
        requestId: text,
        detail: { [text]: text },
      });
      await a.audit.append([strange]);
      expect((await a.audit.list(project, { tool: text }, EVERYTHING)).rows).toEqual([strange]);
      expect((await a.audit.list(project, { user: `app:${text}` }, EVERYTHING)).rows).toEqual([strange]);
    }
  });

  test("a fraction of a millisecond is no reason to lose an entry", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    await a.audit.append([entry(project, "tool_called", { durationMs: 12.6 })]);
    expect((await a.audit.list(project, {}, EVERYTHING)).rows[0]?.durationMs).toBe(13);
  });
});
