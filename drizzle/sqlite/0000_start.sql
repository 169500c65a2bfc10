CREATE TABLE `agent_versions` (
	`project` text NOT NULL,
	`agent` text NOT NULL,
	`version` integer NOT NULL,
	`description` text,
	`metadata` text NOT NULL,
	`definition` blob NOT NULL,
	`created_at` integer NOT NULL,
	`write_id` text NOT NULL,
	PRIMARY KEY(`project`, `agent`, `version`),
	FOREIGN KEY (`project`,`agent`) REFERENCES `agents`(`project`,`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE TABLE `agents` (
	`project` text NOT NULL,
	`name` text NOT NULL,
	`state` text NOT NULL,
	`created_at` integer NOT NULL,
	`latest` integer NOT NULL,
	`highest` integer NOT NULL,
	`write_id` text NOT NULL,
	PRIMARY KEY(`project`, `name`),
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE TABLE `audit` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`at` integer NOT NULL,
	`event` text NOT NULL,
	`outcome` text NOT NULL,
	`principal` text,
	`user_id` text,
	`connection` text,
	`tool` text,
	`agent` text,
	`response_id` text,
	`approval_id` text,
	`request_id` text,
	`duration_ms` integer,
	`detail` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `audit_by_project` ON `audit` (`project`,`id`);--> statement-breakpoint
CREATE TABLE `box_chunks` (
	`project` text NOT NULL,
	`owner` text NOT NULL,
	`part` integer NOT NULL,
	`seq` integer NOT NULL,
	`bytes` blob NOT NULL,
	PRIMARY KEY(`project`, `owner`, `part`, `seq`),
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE TABLE `connections` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`name` text NOT NULL,
	`target` text NOT NULL,
	`place` text NOT NULL,
	`auth` text NOT NULL,
	`require_approval` text,
	`allowed_tools` text,
	`approvers` text NOT NULL,
	`trust_annotations` integer NOT NULL,
	`timeout_ms` integer NOT NULL,
	`metadata` text NOT NULL,
	`is_default` integer NOT NULL,
	`redirect_id` text,
	`version` integer NOT NULL,
	`generation` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`sealed` blob,
	`write_id` text NOT NULL,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX `connections_by_project_and_name` ON `connections` (`project`,`name`);--> statement-breakpoint
CREATE INDEX `connections_by_place` ON `connections` (`project`,`place`,`name`);--> statement-breakpoint
CREATE TABLE `connectors` (
	`name` text PRIMARY KEY NOT NULL,
	`app` text NOT NULL,
	`scopes` text,
	`overrides` text NOT NULL,
	`targets` text NOT NULL,
	`redirect_id` text NOT NULL,
	`version` integer NOT NULL,
	`generation` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`sealed` blob,
	`write_id` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `consents` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`connection_id` text NOT NULL,
	`connection` text NOT NULL,
	`generation` integer NOT NULL,
	`user_id` text NOT NULL,
	`principal` text NOT NULL,
	`caller_name` text NOT NULL,
	`agent` text,
	`request_id` text NOT NULL,
	`confirm_url` text,
	`done_url` text,
	`why` text NOT NULL,
	`scopes` text,
	`new_scopes` text NOT NULL,
	`status` text NOT NULL,
	`outcome` text,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`shown_at` integer,
	`ended_at` integer,
	`browser_hash` text,
	`proven_by` text,
	`redirect_id` text,
	`state_hash` text,
	`state_expires_at` integer,
	`attempt` text,
	`sealed_flow` blob,
	`slot` text,
	`write_id` text NOT NULL,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX `consents_by_slot` ON `consents` (`slot`);--> statement-breakpoint
CREATE UNIQUE INDEX `consents_by_state` ON `consents` (`state_hash`);--> statement-breakpoint
CREATE INDEX `consents_by_key` ON `consents` (`project`,`connection_id`,`user_id`,`created_at`);--> statement-breakpoint
CREATE INDEX `consents_by_user` ON `consents` (`project`,`user_id`);--> statement-breakpoint
CREATE TABLE `grants` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`connection_id` text NOT NULL,
	`user_id` text NOT NULL,
	`status` text NOT NULL,
	`reason` text,
	`issuer` text NOT NULL,
	`resource` text,
	`client_generation` text NOT NULL,
	`scopes` text NOT NULL,
	`version` integer NOT NULL,
	`sealed` blob NOT NULL,
	`expires_at` integer,
	`has_refresh_token` integer NOT NULL,
	`created_at` integer NOT NULL,
	`refreshed_at` integer,
	`last_used_at` integer,
	`last_used_by` text,
	`lease_until` integer,
	`lease` text,
	`untold` integer NOT NULL,
	`write_id` text NOT NULL,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX `grants_by_key` ON `grants` (`project`,`connection_id`,`user_id`);--> statement-breakpoint
CREATE INDEX `grants_by_connection` ON `grants` (`project`,`connection_id`,`id`);--> statement-breakpoint
CREATE INDEX `grants_by_user` ON `grants` (`project`,`user_id`,`id`);--> statement-breakpoint
CREATE INDEX `grants_untold` ON `grants` (`untold`,`id`);--> statement-breakpoint
CREATE TABLE `handles` (
	`kind` text NOT NULL,
	`hash` text NOT NULL,
	`project` text NOT NULL,
	`subject` text NOT NULL,
	`browser_hash` text,
	`sealed` blob,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	PRIMARY KEY(`kind`, `hash`),
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `handles_by_subject` ON `handles` (`project`,`kind`,`subject`);--> statement-breakpoint
CREATE INDEX `handles_by_end` ON `handles` (`expires_at`);--> statement-breakpoint
CREATE TABLE `held_calls` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`owner_user` text,
	`owner_principal` text NOT NULL,
	`response_id` text,
	`position` integer NOT NULL,
	`model` text,
	`agent_name` text,
	`agent_version` integer,
	`call_id` text NOT NULL,
	`label` text NOT NULL,
	`connection_name` text,
	`connection_id` text,
	`connection_generation` integer,
	`connection_version` integer,
	`target` text NOT NULL,
	`tool` text NOT NULL,
	`arguments_digest` text NOT NULL,
	`definition_hash` text NOT NULL,
	`approvers` text NOT NULL,
	`sealed` blob NOT NULL,
	`status` text NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`decided_at` integer,
	`decided_by` text,
	`sealed_reason` blob,
	`lease_until` integer,
	`sealed_outcome` blob,
	`write_id` text NOT NULL,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `held_calls_by_time` ON `held_calls` (`project`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `held_calls_by_response` ON `held_calls` (`response_id`);--> statement-breakpoint
CREATE INDEX `held_calls_by_user` ON `held_calls` (`project`,`owner_user`);--> statement-breakpoint
CREATE TABLE `items` (
	`thread_id` text NOT NULL,
	`position` integer NOT NULL,
	`project` text NOT NULL,
	`id` text NOT NULL,
	`sealed` blob NOT NULL,
	PRIMARY KEY(`thread_id`, `position`),
	FOREIGN KEY (`thread_id`) REFERENCES `threads`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `items_by_id` ON `items` (`project`,`id`);--> statement-breakpoint
CREATE TABLE `keys` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text,
	`name` text NOT NULL,
	`principal` text NOT NULL,
	`hash` text NOT NULL,
	`roles` text NOT NULL,
	`rights` text NOT NULL,
	`created_at` integer NOT NULL,
	`expires_at` integer,
	`confirm_url` text,
	`done_url` text,
	`write_id` text NOT NULL,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX `keys_by_hash` ON `keys` (`hash`);--> statement-breakpoint
CREATE INDEX `keys_by_project_and_name` ON `keys` (`project`,`name`);--> statement-breakpoint
CREATE TABLE `projects` (
	`name` text PRIMARY KEY NOT NULL,
	`settings` text NOT NULL,
	`sealed` blob,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`write_id` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `redirects` (
	`owner_key` text PRIMARY KEY NOT NULL,
	`id` text NOT NULL,
	`kind` text NOT NULL,
	`project` text,
	`name` text NOT NULL,
	`aged_at` integer,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX `redirects_by_id` ON `redirects` (`id`);--> statement-breakpoint
CREATE TABLE `registrations` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`connection_id` text NOT NULL,
	`generation` integer NOT NULL,
	`issuer_key` text,
	`issuer` text NOT NULL,
	`kind` text NOT NULL,
	`server` text NOT NULL,
	`resource` text NOT NULL,
	`scopes_supported` text,
	`client_id` text NOT NULL,
	`client_auth` text NOT NULL,
	`sealed` blob,
	`expires_at` integer,
	`created_at` integer NOT NULL,
	`discovered_at` integer NOT NULL,
	`write_id` text NOT NULL,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE UNIQUE INDEX `registrations_by_issuer` ON `registrations` (`project`,`connection_id`,`issuer_key`);--> statement-breakpoint
CREATE INDEX `registrations_by_time` ON `registrations` (`project`,`connection_id`,`discovered_at`);--> statement-breakpoint
CREATE TABLE `responses` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`thread_id` text NOT NULL,
	`input_from` integer NOT NULL,
	`output_from` integer NOT NULL,
	`end_position` integer NOT NULL,
	`owner_user` text,
	`owner_principal` text NOT NULL,
	`created_at` integer NOT NULL,
	`body` blob NOT NULL,
	`sealed_tool_secrets` blob,
	`write_id` text NOT NULL,
	FOREIGN KEY (`thread_id`) REFERENCES `threads`(`id`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `responses_by_thread` ON `responses` (`thread_id`,`end_position`);--> statement-breakpoint
CREATE TABLE `threads` (
	`id` text PRIMARY KEY NOT NULL,
	`project` text NOT NULL,
	`length` integer NOT NULL,
	`write_id` text NOT NULL,
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE INDEX `threads_by_project` ON `threads` (`project`);--> statement-breakpoint
CREATE TABLE `tool_pins` (
	`project` text NOT NULL,
	`connection_id` text NOT NULL,
	`place` text NOT NULL,
	`tool_key` text NOT NULL,
	`tool` text NOT NULL,
	`pinned` text NOT NULL,
	`seen` text NOT NULL,
	`seen_at` integer NOT NULL,
	`write_id` text NOT NULL,
	PRIMARY KEY(`project`, `connection_id`, `place`, `tool_key`),
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
--> statement-breakpoint
CREATE TABLE `users` (
	`project` text NOT NULL,
	`id` text NOT NULL,
	`status` text NOT NULL,
	`created_at` integer NOT NULL,
	`write_id` text NOT NULL,
	PRIMARY KEY(`project`, `id`),
	FOREIGN KEY (`project`) REFERENCES `projects`(`name`) ON UPDATE no action ON DELETE cascade
);
