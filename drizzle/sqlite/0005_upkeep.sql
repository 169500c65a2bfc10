CREATE TABLE `leases` (
	`name` text PRIMARY KEY NOT NULL,
	`holder` text NOT NULL,
	`until` integer NOT NULL,
	`note` text
);
--> statement-breakpoint
CREATE INDEX `consents_by_end` ON `consents` (`ended_at`);--> statement-breakpoint
CREATE INDEX `conversations_by_time` ON `conversations` (`project`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `held_calls_by_status` ON `held_calls` (`status`,`expires_at`);--> statement-breakpoint
CREATE INDEX `responses_by_time` ON `responses` (`project`,`created_at`,`id`);