CREATE TABLE "agent_versions" (
	"project" text COLLATE "C" NOT NULL,
	"agent" text COLLATE "C" NOT NULL,
	"version" integer NOT NULL,
	"description" text COLLATE "C",
	"metadata" text NOT NULL,
	"definition" "bytea" NOT NULL,
	"created_at" bigint NOT NULL,
	"write_id" text COLLATE "C" NOT NULL,
	CONSTRAINT "agent_versions_pk" PRIMARY KEY("project","agent","version")
);
--> statement-breakpoint
CREATE TABLE "agents" (
	"project" text COLLATE "C" NOT NULL,
	"name" text COLLATE "C" NOT NULL,
	"state" text COLLATE "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"latest" integer NOT NULL,
	"highest" integer NOT NULL,
	"write_id" text COLLATE "C" NOT NULL,
	CONSTRAINT "agents_pk" PRIMARY KEY("project","name")
);
--> statement-breakpoint
CREATE TABLE "audit" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"at" bigint NOT NULL,
	"event" text COLLATE "C" NOT NULL,
	"outcome" text COLLATE "C" NOT NULL,
	"principal" text COLLATE "C",
	"user_id" text COLLATE "C",
	"connection" text COLLATE "C",
	"tool" text COLLATE "C",
	"agent" text COLLATE "C",
	"response_id" text COLLATE "C",
	"approval_id" text COLLATE "C",
	"request_id" text COLLATE "C",
	"duration_ms" bigint,
	"detail" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "box_chunks" (
	"project" text COLLATE "C" NOT NULL,
	"owner" text COLLATE "C" NOT NULL,
	"part" integer NOT NULL,
	"seq" integer NOT NULL,
	"bytes" "bytea" NOT NULL,
	CONSTRAINT "box_chunks_pk" PRIMARY KEY("project","owner","part","seq")
);
--> statement-breakpoint
CREATE TABLE "connections" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"name" text COLLATE "C" NOT NULL,
	"target" text COLLATE "C" NOT NULL,
	"place" text COLLATE "C" NOT NULL,
	"auth" text NOT NULL,
	"require_approval" text,
	"allowed_tools" text,
	"approvers" text COLLATE "C" NOT NULL,
	"trust_annotations" boolean NOT NULL,
	"timeout_ms" integer NOT NULL,
	"metadata" text NOT NULL,
	"is_default" boolean NOT NULL,
	"redirect_id" text COLLATE "C",
	"version" integer NOT NULL,
	"generation" integer NOT NULL,
	"created_at" bigint NOT NULL,
	"updated_at" bigint NOT NULL,
	"sealed" "bytea",
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "connectors" (
	"name" text COLLATE "C" PRIMARY KEY NOT NULL,
	"app" text NOT NULL,
	"scopes" text,
	"overrides" text NOT NULL,
	"targets" text NOT NULL,
	"redirect_id" text COLLATE "C" NOT NULL,
	"version" integer NOT NULL,
	"generation" integer NOT NULL,
	"created_at" bigint NOT NULL,
	"updated_at" bigint NOT NULL,
	"sealed" "bytea",
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "consents" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"connection_id" text COLLATE "C" NOT NULL,
	"connection" text COLLATE "C" NOT NULL,
	"generation" integer NOT NULL,
	"user_id" text COLLATE "C" NOT NULL,
	"principal" text COLLATE "C" NOT NULL,
	"caller_name" text COLLATE "C" NOT NULL,
	"agent" text COLLATE "C",
	"request_id" text COLLATE "C" NOT NULL,
	"confirm_url" text COLLATE "C",
	"done_url" text COLLATE "C",
	"why" text COLLATE "C" NOT NULL,
	"scopes" text,
	"new_scopes" text NOT NULL,
	"status" text COLLATE "C" NOT NULL,
	"outcome" text COLLATE "C",
	"created_at" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"shown_at" bigint,
	"ended_at" bigint,
	"browser_hash" text COLLATE "C",
	"proven_by" text COLLATE "C",
	"redirect_id" text COLLATE "C",
	"state_hash" text COLLATE "C",
	"state_expires_at" bigint,
	"attempt" text COLLATE "C",
	"sealed_flow" "bytea",
	"slot" text COLLATE "C",
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "grants" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"connection_id" text COLLATE "C" NOT NULL,
	"user_id" text COLLATE "C" NOT NULL,
	"status" text COLLATE "C" NOT NULL,
	"reason" text COLLATE "C",
	"issuer" text COLLATE "C" NOT NULL,
	"resource" text COLLATE "C",
	"client_generation" text COLLATE "C" NOT NULL,
	"scopes" text NOT NULL,
	"version" integer NOT NULL,
	"sealed" "bytea" NOT NULL,
	"expires_at" bigint,
	"has_refresh_token" boolean NOT NULL,
	"created_at" bigint NOT NULL,
	"refreshed_at" bigint,
	"last_used_at" bigint,
	"last_used_by" text COLLATE "C",
	"lease_until" bigint,
	"lease" text COLLATE "C",
	"untold" boolean NOT NULL,
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "handles" (
	"kind" text COLLATE "C" NOT NULL,
	"hash" text COLLATE "C" NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"subject" text COLLATE "C" NOT NULL,
	"browser_hash" text COLLATE "C",
	"sealed" "bytea",
	"created_at" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	CONSTRAINT "handles_pk" PRIMARY KEY("kind","hash")
);
--> statement-breakpoint
CREATE TABLE "held_calls" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"owner_user" text COLLATE "C",
	"owner_principal" text COLLATE "C" NOT NULL,
	"response_id" text COLLATE "C",
	"position" integer NOT NULL,
	"model" text COLLATE "C",
	"agent_name" text COLLATE "C",
	"agent_version" integer,
	"call_id" text COLLATE "C" NOT NULL,
	"label" text COLLATE "C" NOT NULL,
	"connection_name" text COLLATE "C",
	"connection_id" text COLLATE "C",
	"connection_generation" integer,
	"connection_version" integer,
	"target" text COLLATE "C" NOT NULL,
	"tool" text COLLATE "C" NOT NULL,
	"arguments_digest" text COLLATE "C" NOT NULL,
	"definition_hash" text COLLATE "C" NOT NULL,
	"approvers" text COLLATE "C" NOT NULL,
	"sealed" "bytea" NOT NULL,
	"status" text COLLATE "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"decided_at" bigint,
	"decided_by" text COLLATE "C",
	"sealed_reason" "bytea",
	"lease_until" bigint,
	"sealed_outcome" "bytea",
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "items" (
	"thread_id" text COLLATE "C" NOT NULL,
	"position" integer NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"sealed" "bytea" NOT NULL,
	CONSTRAINT "items_pk" PRIMARY KEY("thread_id","position")
);
--> statement-breakpoint
CREATE TABLE "keys" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C",
	"name" text COLLATE "C" NOT NULL,
	"principal" text COLLATE "C" NOT NULL,
	"hash" text COLLATE "C" NOT NULL,
	"roles" text NOT NULL,
	"rights" text NOT NULL,
	"created_at" bigint NOT NULL,
	"expires_at" bigint,
	"confirm_url" text COLLATE "C",
	"done_url" text COLLATE "C",
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "projects" (
	"name" text COLLATE "C" PRIMARY KEY NOT NULL,
	"settings" text NOT NULL,
	"sealed" "bytea",
	"version" integer NOT NULL,
	"created_at" bigint NOT NULL,
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "redirects" (
	"owner_key" text COLLATE "C" PRIMARY KEY NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"kind" text COLLATE "C" NOT NULL,
	"project" text COLLATE "C",
	"name" text COLLATE "C" NOT NULL,
	"aged_at" bigint
);
--> statement-breakpoint
CREATE TABLE "registrations" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"connection_id" text COLLATE "C" NOT NULL,
	"generation" integer NOT NULL,
	"issuer_key" text COLLATE "C",
	"issuer" text COLLATE "C" NOT NULL,
	"kind" text COLLATE "C" NOT NULL,
	"server" text NOT NULL,
	"resource" text COLLATE "C" NOT NULL,
	"scopes_supported" text,
	"client_id" text COLLATE "C" NOT NULL,
	"client_auth" text COLLATE "C" NOT NULL,
	"sealed" "bytea",
	"expires_at" bigint,
	"created_at" bigint NOT NULL,
	"discovered_at" bigint NOT NULL,
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "responses" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"thread_id" text COLLATE "C" NOT NULL,
	"input_from" integer NOT NULL,
	"output_from" integer NOT NULL,
	"end_position" integer NOT NULL,
	"owner_user" text COLLATE "C",
	"owner_principal" text COLLATE "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"body" "bytea" NOT NULL,
	"sealed_tool_secrets" "bytea",
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "threads" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"length" integer NOT NULL,
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tool_pins" (
	"project" text COLLATE "C" NOT NULL,
	"connection_id" text COLLATE "C" NOT NULL,
	"place" text COLLATE "C" NOT NULL,
	"tool_key" text COLLATE "C" NOT NULL,
	"tool" text COLLATE "C" NOT NULL,
	"pinned" text COLLATE "C" NOT NULL,
	"seen" text COLLATE "C" NOT NULL,
	"seen_at" bigint NOT NULL,
	"write_id" text COLLATE "C" NOT NULL,
	CONSTRAINT "tool_pins_pk" PRIMARY KEY("project","connection_id","place","tool_key")
);
--> statement-breakpoint
CREATE TABLE "users" (
	"project" text COLLATE "C" NOT NULL,
	"id" text COLLATE "C" NOT NULL,
	"status" text COLLATE "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"write_id" text COLLATE "C" NOT NULL,
	CONSTRAINT "users_pk" PRIMARY KEY("project","id")
);
--> statement-breakpoint
ALTER TABLE "agent_versions" ADD CONSTRAINT "agent_versions_of_agent" FOREIGN KEY ("project","agent") REFERENCES "public"."agents"("project","name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "agents" ADD CONSTRAINT "agents_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "box_chunks" ADD CONSTRAINT "box_chunks_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "connections" ADD CONSTRAINT "connections_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "consents" ADD CONSTRAINT "consents_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "grants" ADD CONSTRAINT "grants_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "handles" ADD CONSTRAINT "handles_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "held_calls" ADD CONSTRAINT "held_calls_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "items" ADD CONSTRAINT "items_thread_id_threads_id_fk" FOREIGN KEY ("thread_id") REFERENCES "public"."threads"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "keys" ADD CONSTRAINT "keys_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "redirects" ADD CONSTRAINT "redirects_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "registrations" ADD CONSTRAINT "registrations_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "responses" ADD CONSTRAINT "responses_thread_id_threads_id_fk" FOREIGN KEY ("thread_id") REFERENCES "public"."threads"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "threads" ADD CONSTRAINT "threads_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "tool_pins" ADD CONSTRAINT "tool_pins_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "users" ADD CONSTRAINT "users_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "audit_by_project" ON "audit" USING btree ("project","id");--> statement-breakpoint
CREATE UNIQUE INDEX "connections_by_project_and_name" ON "connections" USING btree ("project","name");--> statement-breakpoint
CREATE INDEX "connections_by_place" ON "connections" USING btree ("project","place","name");--> statement-breakpoint
CREATE UNIQUE INDEX "consents_by_slot" ON "consents" USING btree ("slot");--> statement-breakpoint
CREATE UNIQUE INDEX "consents_by_state" ON "consents" USING btree ("state_hash");--> statement-breakpoint
CREATE INDEX "consents_by_key" ON "consents" USING btree ("project","connection_id","user_id","created_at");--> statement-breakpoint
CREATE INDEX "consents_by_user" ON "consents" USING btree ("project","user_id");--> statement-breakpoint
CREATE UNIQUE INDEX "grants_by_key" ON "grants" USING btree ("project","connection_id","user_id");--> statement-breakpoint
CREATE INDEX "grants_by_connection" ON "grants" USING btree ("project","connection_id","id");--> statement-breakpoint
CREATE INDEX "grants_by_user" ON "grants" USING btree ("project","user_id","id");--> statement-breakpoint
CREATE INDEX "grants_untold" ON "grants" USING btree ("untold","id");--> statement-breakpoint
CREATE INDEX "handles_by_subject" ON "handles" USING btree ("project","kind","subject");--> statement-breakpoint
CREATE INDEX "handles_by_end" ON "handles" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "held_calls_by_time" ON "held_calls" USING btree ("project","created_at","id");--> statement-breakpoint
CREATE INDEX "held_calls_by_response" ON "held_calls" USING btree ("response_id");--> statement-breakpoint
CREATE INDEX "held_calls_by_user" ON "held_calls" USING btree ("project","owner_user");--> statement-breakpoint
CREATE INDEX "items_by_id" ON "items" USING btree ("project","id");--> statement-breakpoint
CREATE UNIQUE INDEX "keys_by_hash" ON "keys" USING btree ("hash");--> statement-breakpoint
CREATE INDEX "keys_by_project_and_name" ON "keys" USING btree ("project","name");--> statement-breakpoint
CREATE UNIQUE INDEX "redirects_by_id" ON "redirects" USING btree ("id");--> statement-breakpoint
CREATE UNIQUE INDEX "registrations_by_issuer" ON "registrations" USING btree ("project","connection_id","issuer_key");--> statement-breakpoint
CREATE INDEX "registrations_by_time" ON "registrations" USING btree ("project","connection_id","discovered_at");--> statement-breakpoint
CREATE INDEX "responses_by_thread" ON "responses" USING btree ("thread_id","end_position");--> statement-breakpoint
CREATE INDEX "threads_by_project" ON "threads" USING btree ("project");