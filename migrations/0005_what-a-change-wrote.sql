ALTER TABLE `audit` ADD `unchanged` text;--> statement-breakpoint
ALTER TABLE `resources` ADD `set_by` text DEFAULT '{}' NOT NULL;