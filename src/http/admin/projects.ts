import { createProject, deleteProject, listProjects } from "../../core/administration/projects.ts";
import { operatorRoute, projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { answerList, pageOf } from "../paging.ts";
import { listOf, pageQuery } from "../wire/common.ts";
import { projectBody, projectDraft, writeProject } from "../wire/projects.ts";

const tag = "projects";

/** Projects are the operator's: made, listed and deleted with a key that belongs to none of them. */
export function projectRoutes({ world, publicUrl, checkTarget }: Deps): Route[] {
  return [
    operatorRoute({
      method: "POST",
      path: "/api/projects",
      tag,
      roles: ["admin"],
      summary: "Make a project",
      body: projectDraft,
      answers: {
        201: { description: "The project", body: projectBody },
        409: { description: "The name is taken" },
      },
      handle: async ({ caller, requestId }, { body }) => {
        const actor = { caller, user: null, requestId };
        const project = await createProject(world, actor, body, checkTarget);
        return Response.json(writeProject(project), { status: 201 });
      },
    }),
    operatorRoute({
      method: "GET",
      path: "/api/projects",
      tag,
      roles: ["admin"],
      summary: "List projects, in order of name",
      query: pageQuery,
      answers: { 200: { description: "A page of projects", body: listOf(projectBody) } },
      handle: async (call, { query }) => {
        const listed = await listProjects(world, pageOf(query));
        return answerList(call, { listed, write: writeProject, idOf: ({ name }) => name, publicUrl });
      },
    }),
    projectRoute({
      method: "GET",
      path: "/api/projects/{project}",
      tag,
      roles: ["admin"],
      summary: "A project and its settings",
      answers: { 200: { description: "The project", body: projectBody } },
      handle: ({ context }) => Response.json(writeProject(context.project)),
    }),
    operatorRoute({
      method: "DELETE",
      path: "/api/projects/{project}",
      tag,
      roles: ["admin"],
      summary: "Delete a project with everything in it; its audit stays",
      answers: { 204: { description: "It is gone" } },
      handle: async ({ caller, requestId, params }) => {
        await deleteProject(world, { caller, user: null, requestId }, params["project"] ?? "");
        return new Response(null, { status: 204 });
      },
    }),
  ];
}
