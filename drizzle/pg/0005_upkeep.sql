CREATE TABLE "leases" (
	"name" text COLLATE "C" PRIMARY KEY NOT NULL,
	"holder" text COLLATE "C" NOT NULL,
	"until" bigint NOT NULL,
	"note" text
);
--> statement-breakpoint
CREATE INDEX "consents_by_end" ON "consents" USING btree ("ended_at");--> statement-breakpoint
CREATE INDEX "conversations_by_time" ON "conversations" USING btree ("project","created_at","id");--> statement-breakpoint
CREATE INDEX "held_calls_by_status" ON "held_calls" USING btree ("status","expires_at");--> statement-breakpoint
CREATE INDEX "responses_by_time" ON "responses" USING btree ("project","created_at","id");