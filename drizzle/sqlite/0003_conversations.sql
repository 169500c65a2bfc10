CREATE TABLE `conversations` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`owner_user` text,
	`owner_principal` text NOT NULL,
	`created_at` integer NOT NULL,
	`metadata` text NOT NULL,
	`write_id` text NOT NULL,
	FOREIGN KEY (`id`) REFERENCES `threads`(`id`) ON UPDATE no action ON DELETE cascade,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `conversations_by_user` ON `conversations` (`project`,`owner_user`);