CREATE TABLE `signing_keys` (
	`purpose` text NOT NULL,
	`seq` integer NOT NULL,
	`kid` text NOT NULL,
	`sealed` blob NOT NULL,
	`created_at` integer NOT NULL,
	`not_before` integer NOT NULL,
	PRIMARY KEY(`purpose`, `seq`)
);
