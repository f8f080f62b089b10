-- The audit is only ever appended to. REPLACE deletes without firing a delete trigger unless recursive_triggers is on,
-- so an insert over an existing row is refused too: one clause per unique column, the implicit rowid included.
CREATE TRIGGER `audit_no_update` BEFORE UPDATE ON `audit` BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: UPDATE refused');
END;
--> statement-breakpoint
CREATE TRIGGER `audit_no_delete` BEFORE DELETE ON `audit` BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: DELETE refused');
END;
--> statement-breakpoint
CREATE TRIGGER `audit_no_replace` BEFORE INSERT ON `audit`
WHEN EXISTS (SELECT 1 FROM `audit` WHERE `connection` = NEW.`connection` AND `seq` = NEW.`seq`)
  OR EXISTS (SELECT 1 FROM `audit` WHERE `id` = NEW.`id`)
  OR EXISTS (SELECT 1 FROM `audit` WHERE `rowid` = NEW.`rowid`)
BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: INSERT over an existing row refused');
END;
