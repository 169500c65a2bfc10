import { and, asc, desc, eq, gt, lt, sql } from "drizzle-orm";
import type { Agent, AgentVersion } from "../core/agents.ts";
import type { JsonObject } from "../core/json.ts";
import type { Agents } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import { createBoxes, createMarkedRest, headOf, jsonBytes, parseJsonBytes } from "./boxes.ts";
import {
  type Engine,
  type Statement,
  given,
  ifMarked,
  insertIfMarked,
  marked,
  newMark,
  placeholderRows,
  step,
} from "./engine.ts";
import { listed } from "./paging.ts";
import type { Tables } from "./tables.ts";

type VersionRow = Tables["agentVersions"]["$inferSelect"];
type AgentRow = Tables["agents"]["$inferSelect"];

export function createAgents(engine: Engine): Agents {
  const { agents, agentVersions: versions, boxChunks } = engine.tables;
  const boxes = createBoxes(engine);
  const row = marked(agents, [agents.project, agents.name]);
  const audited = createMarkedAudit(engine.tables, row);
  const rest = createMarkedRest(engine.tables, row);
  const insertVersion = insertIfMarked(versions, row);
  const named = and(
    eq(agents.project, given(agents.project, "project")),
    eq(agents.name, given(agents.name, "name")),
  );
  const versionsOf = and(
    eq(versions.project, given(versions.project, "project")),
    eq(versions.agent, given(versions.agent, "name")),
  );
  const oneVersion = and(versionsOf, eq(versions.version, given(versions.version, "version")));
  const isAtAfter = eq(agents.latest, given(agents.latest, "after"));
  const isLatest = and(
    eq(versions.project, agents.project),
    eq(versions.agent, agents.name),
    eq(versions.version, agents.latest),
  );

  const get: Statement<{ agents: AgentRow; agent_versions: VersionRow }[]> = (db) =>
    db.select().from(agents).innerJoin(versions, isLatest).where(named);
  const getVersion: Statement<VersionRow[]> = (db) => db.select().from(versions).where(oneVersion);
  const highest: Statement<{ highest: number }[]> = (db) =>
    db.select({ highest: agents.highest }).from(agents).where(and(named, isAtAfter));
  const create: Statement<AgentRow[]> = (db) =>
    db.insert(agents).values(placeholderRows(agents, 1)).onConflictDoNothing().returning();
  const advance: Statement<AgentRow[]> = (db) =>
    db
      .update(agents)
      .set({
        latest: given(agents.latest, "version"),
        highest: given(agents.highest, "version"),
        identity: sql`coalesce(${given(agents.identity, "identity")}, ${agents.identity})`,
        writeId: given(agents.writeId, "mark"),
      })
      .where(and(named, isAtAfter, eq(agents.highest, given(agents.highest, "highest"))))
      .returning();
  const setState: Statement<{ name: string }[]> = (db) =>
    db
      .update(agents)
      .set({ state: given(agents.state, "state"), writeId: given(agents.writeId, "mark") })
      .where(named)
      .returning({ name: agents.name });
  const setIdentity: Statement<{ name: string }[]> = (db) =>
    db
      .update(agents)
      .set({ identity: given(agents.identity, "identity"), writeId: given(agents.writeId, "mark") })
      .where(named)
      .returning({ name: agents.name });
  const mark: Statement<{ name: string }[]> = (db) =>
    db
      .update(agents)
      .set({ writeId: given(agents.writeId, "mark") })
      .where(named)
      .returning({ name: agents.name });
  const markIfVersion: Statement<{ name: string }[]> = (db) =>
    db
      .update(agents)
      .set({ writeId: given(agents.writeId, "mark") })
      .where(and(named, sql`exists (select 1 from ${versions} where ${oneVersion})`))
      .returning({ name: agents.name });
  const removeVersion: Statement<unknown> = (db) => db.delete(versions).where(and(oneVersion, ifMarked(row)));
  const newest = sql`(select max(${versions.version}) from ${versions} where ${versionsOf})`;
  const fallBack: Statement<unknown> = (db) =>
    db
      .update(agents)
      .set({ latest: sql`coalesce(${newest}, ${agents.latest})` })
      .where(row.where);
  const removeIfEmpty: Statement<unknown> = (db) =>
    db.delete(agents).where(sql`${row.where} and ${newest} is null`);
  const remove: Statement<unknown> = (db) => db.delete(agents).where(row.where);
  const chunksOf = and(
    eq(boxChunks.project, given(boxChunks.project, "project")),
    eq(boxChunks.owner, given(boxChunks.owner, "owner")),
    ifMarked(row),
  );
  const removeChunks: Statement<unknown> = (db) => db.delete(boxChunks).where(chunksOf);
  const removeVersionChunks: Statement<unknown> = (db) =>
    db.delete(boxChunks).where(and(chunksOf, eq(boxChunks.part, given(boxChunks.part, "version"))));

  const versionOf = async (found: VersionRow): Promise<AgentVersion> => {
    const { project, agent, version, description, metadata, createdAt } = found;
    const definition = await boxes.whole(placeOf(found), found.definition);
    return {
      project,
      agent,
      version,
      description,
      metadata,
      definition: parseJsonBytes<JsonObject>(definition),
      createdAt,
    };
  };
  const agentOf = async (agent: AgentRow, latest: VersionRow): Promise<Agent> => {
    const { project, name, state, identity, createdAt } = agent;
    return { project, name, state, identity, createdAt, latest: await versionOf(latest) };
  };

  const highestAt = async (project: string, name: string, after: number) => {
    const [found] = await engine.run(highest, { project, name, after });
    return found?.highest ?? null;
  };

  return {
    get: async (project, name) => {
      const [found] = await engine.run(get, { project, name });
      return found ? agentOf(found.agents, found.agent_versions) : null;
    },

    list: async (project, page) => {
      const rows = await engine.run((db) =>
        db
          .select()
          .from(agents)
          .innerJoin(versions, isLatest)
          .where(
            and(eq(agents.project, project), page.after === null ? undefined : gt(agents.name, page.after)),
          )
          .orderBy(asc(agents.name))
          .limit(page.limit + 1),
      );
      const found = await Promise.all(rows.map((each) => agentOf(each.agents, each.agent_versions)));
      return listed(found, page.limit);
    },

    addVersion: async (added, after, audit, identity) => {
      const { project, agent: name, createdAt } = added;
      // Read beforehand, because boxes need the number; whoever gives one in between wins the compare-and-swap.
      const highestGiven = after === 0 ? 0 : await highestAt(project, name, after);
      if (highestGiven === null) return null;
      const version = { ...added, version: highestGiven + 1 };
      const writeId = newMark();
      const found = row.values([project, name], writeId);
      const definition = jsonBytes(added.definition);
      const first =
        after === 0
          ? step(create, {
              project,
              name,
              state: "enabled",
              identity: identity ?? "shared",
              createdAt,
              latest: 1,
              highest: 1,
              writeId,
            })
          : step(advance, {
              project,
              name,
              version: version.version,
              after,
              highest: highestGiven,
              identity: identity ?? null,
              mark: writeId,
            });
      const [changed] = await engine.atomic([
        first,
        step(insertVersion, { ...version, definition: headOf(definition), writeId, ...found }),
        ...rest(placeOf(version), definition, found),
        ...audited(audit, found),
      ]);
      const agent = changed[0];
      if (!agent) return null;
      const { state, identity: acting } = agent;
      return { project, name, state, identity: acting, createdAt: agent.createdAt, latest: version };
    },

    setState: async (project, name, state, audit) => {
      const writeId = newMark();
      const [changed] = await engine.atomic([
        step(setState, { project, name, state, mark: writeId }),
        ...audited(audit, row.values([project, name], writeId)),
      ]);
      return changed.length > 0;
    },

    setIdentity: async (project, name, identity, audit) => {
      const writeId = newMark();
      const [changed] = await engine.atomic([
        step(setIdentity, { project, name, identity, mark: writeId }),
        ...audited(audit, row.values([project, name], writeId)),
      ]);
      return changed.length > 0;
    },

    delete: async (project, name, audit) => {
      const writeId = newMark();
      const found = row.values([project, name], writeId);
      const [gone] = await engine.atomic([
        step(mark, { project, name, mark: writeId }),
        ...audited(audit, found),
        step(removeChunks, { project, owner: ownerOf(name), ...found }),
        step(remove, found),
      ]);
      return gone.length > 0;
    },

    getVersion: async (project, name, version) => {
      const [found] = await engine.run(getVersion, { project, name, version });
      return found ? versionOf(found) : null;
    },

    listVersions: async (project, name, page) => {
      const after = page.after === null ? null : Number(page.after);
      if (after !== null && !Number.isSafeInteger(after)) return { rows: [], more: false };
      const rows = await engine.run((db) =>
        db
          .select()
          .from(versions)
          .where(
            and(
              eq(versions.project, project),
              eq(versions.agent, name),
              after === null ? undefined : lt(versions.version, after),
            ),
          )
          .orderBy(desc(versions.version))
          .limit(page.limit + 1),
      );
      return listed(await Promise.all(rows.map(versionOf)), page.limit);
    },

    deleteVersion: async (project, name, version, audit) => {
      const writeId = newMark();
      const found = row.values([project, name], writeId);
      const [, gone] = await engine.atomic([
        // The lock comes first: PostgreSQL looks whether the version is there as of the statement's begin.
        step(mark, { project, name, mark: newMark() }),
        step(markIfVersion, { project, name, version, mark: writeId }),
        ...audited(audit, found),
        step(removeVersionChunks, { project, owner: ownerOf(name), version, ...found }),
        step(removeVersion, { project, name, version, ...found }),
        step(fallBack, { project, name, ...found }),
        step(removeIfEmpty, { project, name, ...found }),
      ]);
      return gone.length > 0;
    },
  };
}

const ownerOf = (agent: string) => `agent:${agent}`;
const placeOf = (version: { project: string; agent: string; version: number }) => ({
  project: version.project,
  owner: ownerOf(version.agent),
  part: version.version,
});
