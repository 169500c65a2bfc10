CREATE TABLE `background` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`owner_user` text,
	`owner_principal` text NOT NULL,
	`status` text NOT NULL,
	`run` text,
	`lease_until` integer NOT NULL,
	`attempts` integer NOT NULL,
	`cancelled_at` integer,
	`batches` integer NOT NULL,
	`bytes` integer NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`body` blob NOT NULL,
	`sealed` blob NOT NULL,
	`write_id` text NOT NULL,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `background_by_lease` ON `background` (`status`,`lease_until`);--> statement-breakpoint
CREATE INDEX `background_by_project` ON `background` (`project`,`status`);--> statement-breakpoint
CREATE INDEX `background_by_expiry` ON `background` (`expires_at`);--> statement-breakpoint
CREATE TABLE `background_batches` (
	`id` text NOT NULL,
	`seq` integer NOT NULL,
	`project` text NOT NULL,
	`sealed` blob NOT NULL,
	PRIMARY KEY(`id`, `seq`),
	FOREIGN KEY (`id`) REFERENCES `background`(`id`) ON UPDATE no action ON DELETE cascade
);
