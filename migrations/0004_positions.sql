CREATE TABLE `__new_audit` (
	`position` integer PRIMARY KEY NOT NULL,
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
	`refusal` text,
	`previous` text NOT NULL,
	`hash` text NOT NULL
);
--> statement-breakpoint
-- Lists go by positions from here on, and look for ids where their time has them. An audit that does not stand in the order of
-- its ids, because the clock was set back between two starts of the gateway, cannot be taken over: nothing is changed then.
CREATE TABLE `__order_of_ids` (`faults` integer CHECK (`faults` = 0));
--> statement-breakpoint
-- If this fails: the audit does not stand in the order of its ids. Export it with the version that wrote it, and begin another.
INSERT INTO `__order_of_ids`
SELECT count(*) FROM (
  SELECT
    `id` <= lag(`id`, 1, '') OVER (ORDER BY `rowid`)
    OR substr(`id`, 1, 13) = substr(lag(`id`, 1024, '') OVER (ORDER BY `rowid`), 1, 13)
    OR substr(`id`, 1, 8) || substr(`id`, 10, 4) <> format('%012x', CAST(round(unixepoch(`at`, 'subsec') * 1000) AS INTEGER)) AS `fault`
  FROM `audit`
) WHERE `fault`;
--> statement-breakpoint
DROP TABLE `__order_of_ids`;--> statement-breakpoint
INSERT INTO `__new_audit`("position", "connection", "seq", "id", "at", "type", "change_id", "actor", "actor_key", "actor_address", "alias", "kind", "resource", "fields", "widens", "reason", "request_id", "outcome", "upstream", "refusal", "previous", "hash")
SELECT `place`.`position`, "connection", "seq", "id", "at", "type", "change_id", "actor", "actor_key", "actor_address", "alias", "kind", "resource", "fields", "widens", "reason", "request_id", "outcome", "upstream", "refusal", "previous", "hash"
FROM (
  SELECT
    `rowid` AS `row`,
    CAST(round(unixepoch(`at`, 'subsec') * 1000) AS INTEGER) * 1024 + row_number() OVER (PARTITION BY `at` ORDER BY `rowid`) - 1 AS `position`
  FROM `audit`
) AS `place` JOIN `audit` ON `audit`.`rowid` = `place`.`row`;
--> statement-breakpoint
DROP TABLE `audit`;--> statement-breakpoint
ALTER TABLE `__new_audit` RENAME TO `audit`;--> statement-breakpoint
CREATE INDEX `audit_by_connection` ON `audit` (`connection`);--> statement-breakpoint
CREATE INDEX `audit_by_change` ON `audit` (`change_id`);--> statement-breakpoint
CREATE INDEX `audit_by_resource` ON `audit` (`resource`);--> statement-breakpoint
CREATE INDEX `audit_by_actor` ON `audit` (`actor`);--> statement-breakpoint
CREATE INDEX `audit_by_outcome` ON `audit` (`outcome`) WHERE "audit"."outcome" is not null;--> statement-breakpoint
CREATE INDEX `audit_by_uncommon_type` ON `audit` (`type`) WHERE "audit"."type" NOT IN ('intent', 'outcome');--> statement-breakpoint
CREATE TRIGGER `audit_no_update` BEFORE UPDATE ON `audit` BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: UPDATE refused');
END;
--> statement-breakpoint
CREATE TRIGGER `audit_no_delete` BEFORE DELETE ON `audit` BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: DELETE refused');
END;
--> statement-breakpoint
-- REPLACE deletes without firing a delete trigger unless recursive_triggers is on, and it could only replace what stands at
-- a position that is taken. A row without a position has -1 here.
CREATE TRIGGER `audit_goes_on` BEFORE INSERT ON `audit`
WHEN EXISTS (SELECT 1 FROM `audit` WHERE `position` >= NEW.`position`) OR NEW.`position` < 0
BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: INSERT before or over an existing row refused');
END;
--> statement-breakpoint
-- Instead of a unique index over connection and seq: no gap, no fork, and nothing that does not follow what is there.
CREATE TRIGGER `audit_is_chained` BEFORE INSERT ON `audit`
WHEN (NEW.`seq`, NEW.`previous`) IS NOT (
  SELECT coalesce(max(`seq`), 0) + 1, coalesce(max(`hash`), '0000000000000000000000000000000000000000000000000000000000000000')
  FROM `audit` WHERE `position` = (SELECT max(`position`) FROM `audit` WHERE `connection` = NEW.`connection`)
)
BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: INSERT that does not go on with its chain refused');
END;
--> statement-breakpoint
-- A row of these is little more than its key, so that a table beside the key's index would be most of it once more.
CREATE TABLE `__new_changes` (
	`id` text PRIMARY KEY NOT NULL,
	`connection` text NOT NULL,
	`kind` text NOT NULL,
	`resource` text NOT NULL,
	`actor` text,
	`state` text NOT NULL,
	`since` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
INSERT INTO `__new_changes` SELECT `id`, `connection`, `kind`, `resource`, `actor`, `state`, `since` FROM `changes`;--> statement-breakpoint
DROP TABLE `changes`;--> statement-breakpoint
ALTER TABLE `__new_changes` RENAME TO `changes`;--> statement-breakpoint
CREATE INDEX `changes_by_state` ON `changes` (`connection`,`state`,`id`);--> statement-breakpoint
CREATE INDEX `changes_by_resource` ON `changes` (`resource`,`id`);--> statement-breakpoint
CREATE INDEX `changes_by_actor` ON `changes` (`actor`,`id`);
