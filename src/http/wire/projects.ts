import * as z from "zod";
import type { Project } from "../../core/project.ts";
import { writeMoment } from "./common.ts";
import { settingsBody, settingsChange, writeSettingsBody } from "./settings.ts";

export const projectDraft = z.object({ name: z.string(), settings: settingsChange.default({}) });

export const projectBody = z.object({ name: z.string(), settings: settingsBody, createdAt: z.string() });

export function writeProject({ name, settings, createdAt }: Project): z.infer<typeof projectBody> {
  return { name, settings: writeSettingsBody(settings), createdAt: writeMoment(createdAt) };
}
