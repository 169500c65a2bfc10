import { agentPrincipal } from "../../core/administration/agent-principal.ts";
import {
  createAgent,
  createAgentVersion,
  deleteAgent,
  deleteAgentVersion,
  getAgent,
  getAgentVersion,
  listAgents,
  listAgentVersions,
  setAgentIdentity,
  setAgentState,
  updateAgent,
} from "../../core/administration/agents.ts";
import type { Agent } from "../../core/agents.ts";
import { type ProjectCall, projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import {
  agentBody,
  agentDraft,
  agentListOf,
  agentPatch,
  agentQuery,
  agentUpdate,
  agentVersionBody,
  agentVersionDraft,
  deletedBody,
  versionPage,
  writeAgent,
  writeAgentList,
  writeAgentVersion,
} from "../wire/agents.ts";

const tag = "agents";
const path = "/api/projects/{project}/agents";
const readers = ["admin", "runtime"] as const;
const writers = ["admin"] as const;
const nameOf = ({ params }: ProjectCall) => params["name"] ?? "";

/** Foundry's verbs for prompt agents. Success is 200 and nothing else, except where it says 204 (foundry-wire H4). */
export function agentRoutes(deps: Deps): Route[] {
  return [...agents(deps), ...versions(deps), ...states(deps)];
}

function agents({ world }: Deps): Route[] {
  const one = { 200: { description: "The agent", body: agentBody } };
  const written = async ({ context }: ProjectCall, agent: Agent) =>
    writeAgent(agent, await agentPrincipal(world, context.project, agent));
  return [
    projectRoute({
      method: "POST",
      path,
      tag,
      roles: writers,
      summary: "Make an agent with its first version",
      body: agentDraft,
      answers: { ...one, 409: { description: "The name is taken" } },
      handle: async (call, { body }) =>
        Response.json(await written(call, await createAgent(world, call.context, body))),
    }),
    projectRoute({
      method: "GET",
      path,
      tag,
      roles: readers,
      summary: "List agents, in order of name",
      query: agentQuery,
      answers: { 200: { description: "A page of agents", body: agentListOf(agentBody) } },
      handle: async (call, { query }) => {
        const { kind, limit, after } = query;
        const isOurs = kind === undefined || kind === "prompt";
        const { rows, more } = isOurs
          ? await listAgents(world, call.context, { limit, after: after ?? null })
          : { rows: [], more: false };
        const data = await Promise.all(rows.map((agent) => written(call, agent)));
        return Response.json(writeAgentList({ rows: data, more }, (agent) => agent));
      },
    }),
    projectRoute({
      method: "GET",
      path: `${path}/{name}`,
      tag,
      roles: readers,
      summary: "An agent and its latest version",
      answers: one,
      handle: async (call) =>
        Response.json(await written(call, await getAgent(world, call.context, nameOf(call)))),
    }),
    projectRoute({
      method: "POST",
      path: `${path}/{name}`,
      tag,
      roles: writers,
      summary: "Add a version if something changed",
      body: agentUpdate,
      answers: one,
      handle: async (call, { body }) =>
        Response.json(await written(call, await updateAgent(world, call.context, nameOf(call), body))),
    }),
    projectRoute({
      method: "PATCH",
      path: `${path}/{name}`,
      tag,
      roles: writers,
      summary: "Set whose identity it acts with; Foundry's publishing settings are taken and mean nothing",
      body: agentPatch,
      answers: one,
      handle: async (call, { body }) => {
        const { context } = call;
        const agent = await setAgentIdentity(world, context, nameOf(call), body.identity ?? null);
        return Response.json(await written(call, agent));
      },
    }),
    projectRoute({
      method: "DELETE",
      path: `${path}/{name}`,
      tag,
      roles: writers,
      summary: "Delete an agent with all its versions",
      answers: { 200: { description: "It is gone", body: deletedBody } },
      handle: async (call) => {
        const name = nameOf(call);
        await deleteAgent(world, call.context, name);
        return Response.json({ object: "agent.deleted", name, deleted: true });
      },
    }),
  ];
}

function versions({ world }: Deps): Route[] {
  const versionOf = ({ params }: ProjectCall) => params["version"] ?? "";
  const one = { 200: { description: "The version", body: agentVersionBody } };
  return [
    projectRoute({
      method: "POST",
      path: `${path}/{name}/versions`,
      tag,
      roles: writers,
      summary: "Add a version; makes the agent where there is none",
      body: agentVersionDraft,
      answers: one,
      handle: async (call, { body }) =>
        Response.json(writeAgentVersion(await createAgentVersion(world, call.context, nameOf(call), body))),
    }),
    projectRoute({
      method: "GET",
      path: `${path}/{name}/versions`,
      tag,
      roles: readers,
      summary: "List an agent's versions, newest first",
      query: agentQuery,
      answers: { 200: { description: "A page of versions", body: agentListOf(agentVersionBody) } },
      handle: async (call, { query }) => {
        const listed = await listAgentVersions(world, call.context, nameOf(call), versionPage(query));
        return Response.json(writeAgentList(listed, writeAgentVersion));
      },
    }),
    projectRoute({
      method: "GET",
      path: `${path}/{name}/versions/{version}`,
      tag,
      roles: readers,
      summary: "One version",
      answers: one,
      handle: async (call) => {
        const version = await getAgentVersion(world, call.context, nameOf(call), versionOf(call));
        return Response.json(writeAgentVersion(version));
      },
    }),
    projectRoute({
      method: "DELETE",
      path: `${path}/{name}/versions/{version}`,
      tag,
      roles: writers,
      summary: "Delete a version; with the last one the agent is gone",
      answers: { 200: { description: "It is gone", body: deletedBody } },
      handle: async (call) => {
        const name = nameOf(call);
        const version = versionOf(call);
        await deleteAgentVersion(world, call.context, name, version);
        return Response.json({ object: "agent.version.deleted", name, version, deleted: true });
      },
    }),
  ];
}

function states({ world }: Deps): Route[] {
  const verbs = { enable: "enabled", disable: "disabled" } as const;
  return (["enable", "disable"] as const).map((verb) =>
    projectRoute({
      method: "POST",
      path: `${path}/{name}:${verb}`,
      tag,
      roles: writers,
      summary: verb === "enable" ? "Let responses name the agent" : "Refuse responses that name the agent",
      answers: { 204: { description: "Done" } },
      handle: async (call) => {
        await setAgentState(world, call.context, nameOf(call), verbs[verb]);
        return new Response(null, { status: 204 });
      },
    }),
  );
}
