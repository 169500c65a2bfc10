import * as z from "zod";
import type { User } from "../../core/storage.ts";
import { writeMoment } from "./common.ts";

export const userBody = z.object({
  id: z.string(),
  status: z.enum(["active", "blocked"]),
  createdAt: z.string(),
});

export function writeUser({ id, status, createdAt }: User): z.infer<typeof userBody> {
  return { id, status, createdAt: writeMoment(createdAt) };
}
