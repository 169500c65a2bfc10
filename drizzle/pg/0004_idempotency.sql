CREATE TABLE "idempotency" (
	"project" text COLLATE "C" NOT NULL,
	"slot" text COLLATE "C" NOT NULL,
	"digest" text COLLATE "C" NOT NULL,
	"run" text COLLATE "C" NOT NULL,
	"status" text COLLATE "C" NOT NULL,
	"response_id" text COLLATE "C",
	"lease_until" bigint NOT NULL,
	"expires_at" bigint NOT NULL,
	"sealed" "bytea",
	"write_id" text COLLATE "C" NOT NULL,
	CONSTRAINT "idempotency_pk" PRIMARY KEY("project","slot")
);
--> statement-breakpoint
ALTER TABLE "idempotency" ADD CONSTRAINT "idempotency_project_projects_name_fk" FOREIGN KEY ("project") REFERENCES "public"."projects"("name") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "idempotency_by_expiry" ON "idempotency" USING btree ("expires_at");