CREATE TABLE `refusals` (
	`connection` text NOT NULL,
	`caller` text NOT NULL,
	`key` text NOT NULL,
	`problem` text NOT NULL,
	`since` integer NOT NULL,
	`count` integer NOT NULL,
	`first` text,
	PRIMARY KEY(`connection`, `caller`, `key`, `problem`)
);
--> statement-breakpoint
ALTER TABLE `audit` ADD `refusal` text;--> statement-breakpoint
CREATE INDEX `audit_refused` ON `audit` (`id`) WHERE "audit"."type" = 'refused';