DROP INDEX `audit_by_outcome`;--> statement-breakpoint
CREATE INDEX `audit_by_outcome` ON `audit` (`outcome`,`id`) WHERE "audit"."outcome" is not null;