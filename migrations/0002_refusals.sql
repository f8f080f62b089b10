CREATE TABLE `refusals` (
	`connection` text NOT NULL,
	`caller` text NOT NULL,
	`problem` text NOT NULL,
	`since` integer NOT NULL,
	`count` integer NOT NULL,
	`first` text,
	PRIMARY KEY(`connection`, `caller`, `problem`)
);
--> statement-breakpoint
ALTER TABLE `audit` ADD `refusal` text;