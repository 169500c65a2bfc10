import type { JsonObject } from "./json.ts";

/** A named, versioned definition. Only Foundry's kind `prompt` can run here. */
export type AgentVersion = {
  project: string;
  agent: string;
  version: number;
  description: string | null;
  metadata: Record<string, string>;
  /** The definition exactly as given: what the wire echoes, and what a response that names the agent reads. */
  definition: JsonObject;
  createdAt: number;
};

/** Whether an agent acts as itself, or as the identity that a project's agents share. */
export const AGENT_IDENTITIES = ["shared", "own"] as const;
export type AgentIdentity = (typeof AGENT_IDENTITIES)[number];

export type Agent = {
  project: string;
  name: string;
  state: "enabled" | "disabled";
  identity: AgentIdentity;
  createdAt: number;
  latest: AgentVersion;
};
