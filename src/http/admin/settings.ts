import { writeSettings } from "../../core/administration/settings.ts";
import { projectRoute, type Route } from "../route.ts";
import type { Deps } from "../routes.ts";
import { settingsBody, settingsChange, writeSettingsBody } from "../wire/settings.ts";

const tag = "settings";
const roles = ["admin"] as const;
const path = "/api/projects/{project}/settings";
const answers = { 200: { description: "The settings as they are now", body: settingsBody } };

export function settingsRoutes({ world, checkTarget }: Deps): Route[] {
  return [
    projectRoute({
      method: "GET",
      path,
      tag,
      roles,
      summary: "The project's settings",
      answers,
      handle: ({ context }) => Response.json(writeSettingsBody(context.project.settings)),
    }),
    projectRoute({
      method: "PUT",
      path,
      tag,
      roles,
      summary: "Replace the settings; what is left out goes back to its default",
      body: settingsChange,
      answers,
      handle: async ({ context }, { body }) =>
        Response.json(
          writeSettingsBody(await writeSettings(world, context, body, { mode: "replace", checkTarget })),
        ),
    }),
    projectRoute({
      method: "PATCH",
      path,
      tag,
      roles,
      summary: "Change some settings",
      body: settingsChange,
      answers,
      handle: async ({ context }, { body }) =>
        Response.json(
          writeSettingsBody(await writeSettings(world, context, body, { mode: "change", checkTarget })),
        ),
    }),
  ];
}
