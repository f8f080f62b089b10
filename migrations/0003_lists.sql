DROP INDEX `audit_refused`;--> statement-breakpoint
DROP INDEX `audit_by_outcome`;--> statement-breakpoint
CREATE INDEX `audit_by_uncommon_type` ON `audit` (`type`,`id`) WHERE "audit"."type" NOT IN ('intent', 'outcome');--> statement-breakpoint
CREATE INDEX `audit_by_outcome` ON `audit` (`outcome`,`id`) WHERE "audit"."outcome" is not null;