CREATE TABLE "conversations" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"owner_user" text COLLATE "C",
	"owner_principal" text COLLATE "C" NOT NULL,
	"created_at" bigint NOT NULL,
	"metadata" text NOT NULL,
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
ALTER TABLE "conversations" ADD CONSTRAINT "conversations_id_threads_id_fk" FOREIGN KEY ("id") REFERENCES "public"."threads"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "conversations" ADD CONSTRAINT "conversations_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "conversations_by_user" ON "conversations" USING btree ("project","owner_user");