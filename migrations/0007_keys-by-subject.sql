-- A key belongs to the subject of a token too. The change's first event tells whose it was; API keys are all the caller's own.
CREATE TABLE `__new_idempotency` (
	`caller` text NOT NULL,
	`subject` text DEFAULT '' NOT NULL,
	`kind` text NOT NULL,
	`resource` text NOT NULL,
	`key` text NOT NULL,
	`change_id` text NOT NULL,
	`fingerprint` text NOT NULL,
	`mismatches` integer DEFAULT 0 NOT NULL,
	`mismatched_since` integer DEFAULT 0 NOT NULL,
	`answer` text,
	`expires_at` integer,
	PRIMARY KEY(`caller`, `subject`, `kind`, `resource`, `key`)
);
--> statement-breakpoint
INSERT INTO `__new_idempotency`(`caller`, `subject`, `kind`, `resource`, `key`, `change_id`, `fingerprint`, `answer`, `expires_at`)
SELECT
	`caller`,
	coalesce((
		SELECT iif(substr(`actor_key`, 1, 4) = 'jwt:', `actor_key`, '')
		FROM `audit` WHERE `audit`.`change_id` = `idempotency`.`change_id` ORDER BY `position` LIMIT 1
	), ''),
	`kind`, `resource`, `key`, `change_id`, `fingerprint`, `answer`, `expires_at`
FROM `idempotency`;
--> statement-breakpoint
DROP TABLE `idempotency`;
--> statement-breakpoint
ALTER TABLE `__new_idempotency` RENAME TO `idempotency`;
--> statement-breakpoint
CREATE INDEX `idempotency_by_change` ON `idempotency` (`change_id`);
--> statement-breakpoint
CREATE INDEX `idempotency_by_expiry` ON `idempotency` (`expires_at`);
--> statement-breakpoint
CREATE TABLE `__new_refusals` (
	`connection` text NOT NULL,
	`caller` text NOT NULL,
	`problem` text NOT NULL,
	`since` integer NOT NULL,
	`count` integer NOT NULL,
	`first` text,
	`subjects` text DEFAULT '[]' NOT NULL,
	PRIMARY KEY(`connection`, `caller`, `problem`)
);
--> statement-breakpoint
-- What was counted for each key of a caller is counted together from now on.
INSERT INTO `__new_refusals`(`connection`, `caller`, `problem`, `since`, `count`, `first`, `subjects`)
SELECT
	`connection`, `caller`, `problem`, min(`since`), sum(`count`), max(`first`),
	json_group_array(`key`) FILTER (WHERE `count` > 0)
FROM `refusals` GROUP BY `connection`, `caller`, `problem`;
--> statement-breakpoint
DROP TABLE `refusals`;
--> statement-breakpoint
ALTER TABLE `__new_refusals` RENAME TO `refusals`;
