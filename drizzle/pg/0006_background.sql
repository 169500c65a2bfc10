CREATE TABLE "background" (
	"id" text COLLATE "C" PRIMARY KEY NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"owner_user" text COLLATE "C",
	"owner_principal" text COLLATE "C" NOT NULL,
	"status" text COLLATE "C" NOT NULL,
	"run" text COLLATE "C",
	"lease_until" bigint NOT NULL,
	"attempts" integer NOT NULL,
	"cancelled_at" bigint,
	"batches" integer NOT NULL,
	"bytes" bigint NOT NULL,
	"created_at" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"body" "bytea" NOT NULL,
	"sealed" "bytea" NOT NULL,
	"write_id" text COLLATE "C" NOT NULL
);
--> statement-breakpoint
CREATE TABLE "background_batches" (
	"id" text COLLATE "C" NOT NULL,
	"seq" integer NOT NULL,
	"project" text COLLATE "C" NOT NULL,
	"sealed" "bytea" NOT NULL,
	CONSTRAINT "background_batches_pk" PRIMARY KEY("id","seq")
);
--> statement-breakpoint
ALTER TABLE "background" ADD CONSTRAINT "background_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "background_batches" ADD CONSTRAINT "background_batches_id_background_id_fk" FOREIGN KEY ("id") REFERENCES "public"."background"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "background_by_lease" ON "background" USING btree ("status","lease_until");--> statement-breakpoint
CREATE INDEX "background_by_project" ON "background" USING btree ("project","status");--> statement-breakpoint
CREATE INDEX "background_by_expiry" ON "background" USING btree ("expires_at");