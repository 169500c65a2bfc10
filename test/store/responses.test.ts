import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { aResponse, bigBox, entry, eventsOf, id, itemRows, newProject, stored, viewerOf } from "./things.ts";

onEveryEngine("responses", (replicas) => {
  test("a response and its items come back as they were", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const response = stored(
      aResponse(project, { instructions: "Be\u0000 kind", metadata: { z: "1", a: "2" } }),
      {
        sealedToolSecrets: new Uint8Array([5]),
      },
    );
    const rows = itemRows(0, 2);
    expect(await a.responses.append(response, rows, [entry(project, "tool_called")])).toBe(true);
    expect(await b.responses.get(project, response.response.id, viewerOf())).toEqual(response);
    expect(await b.responses.items(project, response.threadId, 0, 2)).toEqual(rows);
    expect(await b.responses.items(project, response.threadId, 1, 2)).toEqual(rows.slice(1));
    expect(await b.responses.items(await newProject(a), response.threadId, 0, 2)).toEqual([]);
    expect(await eventsOf(a, project)).toEqual(["tool_called"]);
  });

  test("a thread is continued where it ends, by one; the others leave nothing", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const first = stored(aResponse(project));
    await a.responses.append(first, itemRows(0, 2), []);
    const next = Array.from({ length: 20 }, () => ({
      response: { ...first, response: aResponse(project), inputFrom: 2, outputFrom: 3, end: 5 },
      rows: itemRows(2, 5),
    }));
    const won = await Promise.all(
      next.map(({ response, rows }, n) =>
        (n % 2 ? a : b).responses.append(response, rows, [entry(project, "tool_called")]),
      ),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    const winner = next[won.indexOf(true)];
    expect(await b.responses.items(project, first.threadId, 2, 99)).toEqual(winner?.rows);
    for (const [n, { response }] of next.entries()) {
      const found = await a.responses.get(project, response.response.id, viewerOf());
      expect(found).toEqual(won[n] ? response : null);
    }
    expect(await eventsOf(a, project)).toEqual(["tool_called"]);
  });

  test("a new thread is begun by one", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const threadId = id("thrd");
    const won = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        (n % 2 ? a : b).responses.append(stored(aResponse(project), { threadId }), itemRows(0, 2), []),
      ),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect(await a.responses.items(project, threadId, 0, 99)).toHaveLength(2);
  });

  test("a thread is not continued before or behind its end, nor from another project", async () => {
    const { a } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const first = stored(aResponse(project));
    await a.responses.append(first, itemRows(0, 2), []);
    const at = (inputFrom: number, where = project) =>
      a.responses.append(
        stored(aResponse(where), {
          threadId: first.threadId,
          inputFrom,
          outputFrom: inputFrom,
          end: inputFrom + 1,
        }),
        itemRows(inputFrom, inputFrom + 1),
        [],
      );
    expect(await at(0)).toBe(false);
    expect(await at(1)).toBe(false);
    expect(await at(3)).toBe(false);
    expect(await at(2, other)).toBe(false);
    expect(await at(2)).toBe(true);
  });

  test("who may see a response: its user, else its principal, and who inherits its user", async () => {
    const { a } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const principal = "key:one";
    const anns = stored(aResponse(project, { owner: { user: "app:ann", principal } }));
    const nobodys = stored(aResponse(project, { owner: { user: null, principal } }));
    const rows = { anns: itemRows(0, 2), nobodys: itemRows(0, 2) };
    await a.responses.append(anns, rows.anns, []);
    await a.responses.append(nobodys, rows.nobodys, []);
    const viewers = {
      ann: viewerOf({ user: "app:ann", principal }),
      annElsewhere: viewerOf({ user: "app:ann", principal: "key:two" }),
      bob: viewerOf({ user: "app:bob", principal }),
      nobody: viewerOf({ principal }),
      inheriting: viewerOf({ principal, inheritsUser: true }),
      stranger: viewerOf({ principal: "key:two", inheritsUser: true }),
      // A named user inherits nothing, whatever the caller says.
      bobInheriting: viewerOf({ user: "app:bob", principal, inheritsUser: true }),
    };
    const expected = {
      ann: [true, true],
      annElsewhere: [true, false],
      bob: [false, true],
      nobody: [false, true],
      inheriting: [true, true],
      stranger: [false, false],
      bobInheriting: [false, true],
    };
    for (const [name, viewer] of Object.entries(viewers)) {
      const sees = await Promise.all(
        [anns, nobodys].map(
          async ({ response }) => (await a.responses.get(project, response.id, viewer)) !== null,
        ),
      );
      expect({ [name]: sees }).toEqual({ [name]: expected[name as keyof typeof expected] });
      const ids = [rows.anns, rows.nobodys].flat().map((row) => row.id);
      const found = await a.responses.findItems(project, ids, viewer);
      expect({ [name]: found.length }).toEqual({ [name]: sees.filter(Boolean).length * 2 });
      const gone = await a.responses.delete({ project, id: id("resp"), viewer, at: 1 }, []);
      expect(gone).toBe(false);
    }
    expect(await a.responses.get(other, anns.response.id, viewers.ann)).toBeNull();
    expect(await a.responses.findItems(other, [rows.anns[0]?.id ?? ""], viewers.ann)).toEqual([]);
  });

  test("items are found by their ids, hundreds at once, with their thread", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const response = stored(aResponse(project), { end: 300 });
    const rows = itemRows(0, 300);
    await a.responses.append(response, rows, []);
    const ids = [...rows.map((row) => row.id), "msg_unknown", "nul\u0000"];
    const found = await b.responses.findItems(project, ids, viewerOf());
    expect(found.toSorted((x, y) => x.position - y.position)).toEqual(
      rows.map((row) => ({ ...row, threadId: response.threadId })),
    );
    expect(await b.responses.findItems(project, [], viewerOf())).toEqual([]);
  });

  test("an item is not found through an earlier response of its thread", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const first = stored(aResponse(project));
    await a.responses.append(first, itemRows(0, 2), []);
    const later = itemRows(2, 3);
    const anns = aResponse(project, { owner: { user: "app:ann", principal: "key:runtime" } });
    await a.responses.append(
      stored(anns, { ...first, response: anns, inputFrom: 2, outputFrom: 2, end: 3 }),
      later,
      [],
    );
    const ids = later.map((row) => row.id);
    expect(await a.responses.findItems(project, ids, viewerOf({ user: "app:bob" }))).toEqual([]);
    expect(await a.responses.findItems(project, ids, viewerOf({ user: "app:ann" }))).toHaveLength(1);
  });

  test("a client may name its items as it likes", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const names = ["nul\u0000nul", "x".repeat(20_000), "", "msg_\u001a1"];
    const response = stored(aResponse(project), { end: names.length });
    const rows = itemRows(0, names.length).map((row, n) => ({ ...row, id: names[n] ?? "" }));
    await a.responses.append(response, rows, []);
    for (const [position, name] of names.entries()) {
      expect(await a.responses.findItems(project, [name], viewerOf())).toEqual([
        { position, id: name, sealed: new Uint8Array([position]), threadId: response.threadId },
      ]);
    }
  });

  test("boxes and bodies of megabytes are whole", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const sizes = [0, 1, 299_999, 300_000, 300_001, 1_200_000, 1_200_001, 3_000_000];
    const rows = itemRows(0, sizes.length).map((row, n) => ({ ...row, sealed: bigBox(sizes[n] ?? 0) }));
    const response = stored(aResponse(project, { instructions: "ü".repeat(2_000_000) }), {
      end: sizes.length,
      sealedToolSecrets: bigBox(1_500_000),
    });
    await a.responses.append(response, rows, []);
    const found = await b.responses.items(project, response.threadId, 0, sizes.length);
    expect(
      found.map((row) => Buffer.compare(row.sealed, rows[row.position]?.sealed ?? new Uint8Array())),
    ).toEqual(sizes.map(() => 0));
    const read = await b.responses.get(project, response.response.id, viewerOf());
    expect(read?.response).toEqual(response.response);
    expect(Buffer.compare(read?.sealedToolSecrets ?? new Uint8Array(), bigBox(1_500_000))).toBe(0);
  });

  test("a list that fails half-way leaves nothing behind", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const first = stored(aResponse(project));
    await a.responses.append(first, itemRows(0, 2), []);
    const again = { ...first, inputFrom: 2, outputFrom: 2, end: 3 };
    // The thread could be continued, but the response's id is taken.
    await expect(
      a.responses.append(again, itemRows(2, 3), [entry(project, "tool_called")]),
    ).rejects.toThrow();
    expect(await a.responses.items(project, first.threadId, 0, 99)).toHaveLength(2);
    expect(await eventsOf(a, project)).toEqual([]);
    const other = aResponse(project);
    expect(await a.responses.append({ ...again, response: other }, itemRows(2, 3), [])).toBe(true);
  });
});
