CREATE TABLE `audit` (
	`connection` text NOT NULL,
	`seq` integer NOT NULL,
	`id` text NOT NULL,
	`at` text NOT NULL,
	`type` text NOT NULL,
	`change_id` text,
	`actor` text,
	`actor_key` text,
	`actor_address` text,
	`alias` text,
	`kind` text,
	`resource` text,
	`fields` text NOT NULL,
	`widens` integer NOT NULL,
	`reason` text,
	`request_id` text,
	`outcome` text,
	`upstream` text,
	`previous` text NOT NULL,
	`hash` text NOT NULL,
	PRIMARY KEY(`connection`, `seq`)
);
--> statement-breakpoint
CREATE UNIQUE INDEX `audit_id` ON `audit` (`id`);--> statement-breakpoint
CREATE INDEX `audit_by_connection` ON `audit` (`connection`,`id`);--> statement-breakpoint
CREATE INDEX `audit_by_change` ON `audit` (`change_id`,`id`);--> statement-breakpoint
CREATE INDEX `audit_by_resource` ON `audit` (`resource`,`id`);--> statement-breakpoint
CREATE INDEX `audit_by_actor` ON `audit` (`actor`,`id`);--> statement-breakpoint
CREATE INDEX `audit_by_outcome` ON `audit` (`outcome`,`id`);--> statement-breakpoint
CREATE TABLE `audit_keys` (
	`id` integer PRIMARY KEY NOT NULL,
	`check_value` text NOT NULL,
	`since` text DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')) NOT NULL
);
--> statement-breakpoint
CREATE TABLE `changes` (
	`id` text PRIMARY KEY NOT NULL,
	`connection` text NOT NULL,
	`kind` text NOT NULL,
	`resource` text NOT NULL,
	`actor` text,
	`state` text NOT NULL,
	`since` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `changes_by_state` ON `changes` (`connection`,`state`,`id`);--> statement-breakpoint
CREATE INDEX `changes_by_resource` ON `changes` (`resource`,`id`);--> statement-breakpoint
CREATE INDEX `changes_by_actor` ON `changes` (`actor`,`id`);--> statement-breakpoint
CREATE TABLE `epoch` (
	`one` integer PRIMARY KEY NOT NULL,
	`epoch` integer NOT NULL,
	`room` blob
);
--> statement-breakpoint
CREATE TABLE `idempotency` (
	`caller` text NOT NULL,
	`kind` text NOT NULL,
	`resource` text NOT NULL,
	`key` text NOT NULL,
	`change_id` text NOT NULL,
	`fingerprint` text NOT NULL,
	`answer` text,
	`expires_at` integer,
	PRIMARY KEY(`caller`, `kind`, `resource`, `key`)
);
--> statement-breakpoint
CREATE INDEX `idempotency_by_change` ON `idempotency` (`change_id`);--> statement-breakpoint
CREATE INDEX `idempotency_by_expiry` ON `idempotency` (`expires_at`);--> statement-breakpoint
CREATE TABLE `resources` (
	`kind` text NOT NULL,
	`resource` text NOT NULL,
	`applied` text NOT NULL,
	`secret_changes` integer DEFAULT 0 NOT NULL,
	PRIMARY KEY(`kind`, `resource`)
);
