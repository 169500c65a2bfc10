CREATE TABLE `idempotency` (
	`project` text NOT NULL,
	`slot` text NOT NULL,
	`digest` text NOT NULL,
	`run` text NOT NULL,
	`status` text NOT NULL,
	`response_id` text,
	`lease_until` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`sealed` blob,
	`write_id` text NOT NULL,
	PRIMARY KEY(`project`, `slot`),
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `idempotency_by_expiry` ON `idempotency` (`expires_at`);