-- Ids become plain text: `a:b:other%20user` is `a:b:other user` from here on. Only rows whose id was percent-encoded are touched, and
-- the audit is not: its hashes bind what it says. An id had one spelling, so no two of them become one.
CREATE TABLE `__plain_ids` (`encoded` text PRIMARY KEY NOT NULL, `plain` text NOT NULL);
--> statement-breakpoint
INSERT INTO `__plain_ids`
WITH RECURSIVE
  `ids` (`encoded`) AS (
    SELECT `resource` FROM `changes` WHERE instr(`resource`, '%') > 0
    UNION SELECT `resource` FROM `resources` WHERE instr(`resource`, '%') > 0
    UNION SELECT `resource` FROM `idempotency` WHERE instr(`resource`, '%') > 0
    UNION SELECT json_extract(`first`, '$.resource') FROM `refusals` WHERE instr(json_extract(`first`, '$.resource'), '%') > 0
  ),
  -- Character by character: an escape is its two digits, anything else is ASCII and its own byte.
  `decoded` (`encoded`, `rest`, `bytes`) AS (
    SELECT `encoded`, `encoded`, '' FROM `ids`
    UNION ALL
    SELECT
      `encoded`,
      substr(`rest`, iif(substr(`rest`, 1, 1) = '%', 4, 2)),
      `bytes` || iif(substr(`rest`, 1, 1) = '%', substr(`rest`, 2, 2), hex(substr(`rest`, 1, 1)))
    FROM `decoded` WHERE `rest` <> ''
  )
SELECT `encoded`, CAST(unhex(`bytes`) AS TEXT) FROM `decoded` WHERE `rest` = '';
--> statement-breakpoint
UPDATE `changes` SET `resource` = (SELECT `plain` FROM `__plain_ids` WHERE `encoded` = `changes`.`resource`)
WHERE `resource` IN (SELECT `encoded` FROM `__plain_ids`);
--> statement-breakpoint
UPDATE `resources` SET `resource` = (SELECT `plain` FROM `__plain_ids` WHERE `encoded` = `resources`.`resource`)
WHERE `resource` IN (SELECT `encoded` FROM `__plain_ids`);
--> statement-breakpoint
-- The answer to replay names the resource too.
UPDATE `idempotency` SET
  `answer` = iif(
    json_extract(`answer`, '$.reply.resource.id') = `resource`,
    json_set(`answer`, '$.reply.resource.id', (SELECT `plain` FROM `__plain_ids` WHERE `encoded` = `idempotency`.`resource`)),
    `answer`
  ),
  `resource` = (SELECT `plain` FROM `__plain_ids` WHERE `encoded` = `idempotency`.`resource`)
WHERE `resource` IN (SELECT `encoded` FROM `__plain_ids`);
--> statement-breakpoint
UPDATE `refusals` SET
  `first` = json_set(`first`, '$.resource', (SELECT `plain` FROM `__plain_ids` WHERE `encoded` = json_extract(`refusals`.`first`, '$.resource')))
WHERE json_extract(`first`, '$.resource') IN (SELECT `encoded` FROM `__plain_ids`);
--> statement-breakpoint
DROP TABLE `__plain_ids`;
