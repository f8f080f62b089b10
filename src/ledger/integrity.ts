import { desc, eq, max, sql } from 'drizzle-orm'
import type { Log } from '../lib/log.ts'
import { GENESIS, hashOf, toEvent } from './event.ts'
import { placesAfter, timeOf } from './position.ts'
import { audit } from './schema.ts'
import type { Db, Ledger } from './types.ts'

/** Events of each chain that are verified when a store is opened: what a hand that cuts or changes the end would touch. */
const TAIL = 16

/** What makes the audit append-only, as the migrations leave it; a test compares the two. */
export const TRIGGERS: Record<string, string> = {
  audit_no_update: `CREATE TRIGGER \`audit_no_update\` BEFORE UPDATE ON \`audit\` BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: UPDATE refused');
END`,
  audit_no_delete: `CREATE TRIGGER \`audit_no_delete\` BEFORE DELETE ON \`audit\` BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: DELETE refused');
END`,
  audit_goes_on: `CREATE TRIGGER \`audit_goes_on\` BEFORE INSERT ON \`audit\`
WHEN EXISTS (SELECT 1 FROM \`audit\` WHERE \`position\` >= NEW.\`position\`) OR NEW.\`position\` < 0
BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: INSERT before or over an existing row refused');
END`,
  audit_is_chained: `CREATE TRIGGER \`audit_is_chained\` BEFORE INSERT ON \`audit\`
WHEN (NEW.\`seq\`, NEW.\`previous\`) IS NOT (
  SELECT coalesce(max(\`seq\`), 0) + 1, coalesce(max(\`hash\`), '${GENESIS}')
  FROM \`audit\` WHERE \`position\` = (SELECT max(\`position\`) FROM \`audit\` WHERE \`connection\` = NEW.\`connection\`)
)
BEGIN
  SELECT RAISE(ABORT, 'the audit is append-only: INSERT that does not go on with its chain refused');
END`,
}

/** Makes the audit append-only again. Gives the names of the triggers that were missing, changed, or none of ours. */
function restoreTriggers(db: Db): string[] {
  const found = db.all<{ name: string; sql: string }>(
    sql`SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'`,
  )
  const text = new Map(found.map((trigger) => [trigger.name, trigger.sql]))
  const strange = found.filter(({ name, sql: is }) => TRIGGERS[name] !== is).map(({ name }) => name)
  const missing = Object.keys(TRIGGERS).filter((name) => !text.has(name))
  const wrong = [...strange, ...missing]
  if (wrong.length === 0) return []
  db.transaction((tx) => {
    for (const name of strange) tx.run(sql.raw(`DROP TRIGGER "${name.replaceAll('"', '""')}"`))
    for (const name of wrong) if (TRIGGERS[name]) tx.run(sql.raw(TRIGGERS[name]))
  })
  return wrong
}

/** What of the ends of the chains is not as this gateway writes it; empty where nothing is. */
function faultsOfTails(db: Db, connections: readonly string[]): string[] {
  return connections.flatMap((name) => {
    const rows = db
      .select()
      .from(audit)
      .where(eq(audit.connection, name))
      .orderBy(desc(audit.position))
      .limit(TAIL)
      .all()
    const fault = rows.flatMap((row, index): string[] => {
      const event = toEvent(row)
      const before = rows[index + 1]
      const previous = before?.hash ?? (row.seq === 1 ? GENESIS : row.previous)
      if (event.hash !== hashOf(event)) return [`event ${row.seq} was changed`]
      if (row.previous !== previous || (before && row.seq !== before.seq + 1))
        return [`event ${row.seq} does not go on with the one before it`]
      if (Math.floor(row.position / 1024) !== timeOf(row.id))
        return [`event ${row.seq} stands at another time than its id`]
      return []
    })
    return fault.slice(0, 1).map((what) => `the audit of ${name} was tampered with: ${what}`)
  })
}

/** Events that must still find a place after the newest: more than are ever made. */
const ROOM = 2 ** 40

/**
 * Looks at an opened store before anything is written to it: makes it append-only again where it is not, and tells of that in
 * an event of `connection`. Gives what stands in the way of writing.
 */
export async function inspect(db: Db, ledger: Ledger, connection: string, log: Log): Promise<string[]> {
  const restored = restoreTriggers(db)
  const faults = faultsOfTails(db, ledger.connections())
  const newest =
    db
      .select({ position: max(audit.position) })
      .from(audit)
      .get()?.position ?? 0
  if (placesAfter(newest) < ROOM)
    faults.push(
      'the newest event of the audit is of a time that cannot be, for a clock was wrong, and there is no place after it; put a backup from before in its place',
    )
  if (restored.length > 0) {
    log.error('audit was not append-only, its triggers are made anew', { connection, triggers: restored })
    const told = ledger.append({
      connection,
      draft: {
        type: 'repaired',
        changeId: null,
        actor: null,
        alias: null,
        kind: null,
        resource: null,
        fields: {},
        widens: false,
        reason:
          `triggers that make the audit append-only were missing or changed: ${restored.join(', ')}`.slice(
            0,
            500,
          ),
        requestId: null,
        outcome: null,
        upstream: null,
      },
    })
    await told.catch((error) => log.error('repair not told', { connection, error: String(error) }))
  }
  for (const fault of faults) log.error('audit is at fault, nothing is written', { connection, fault })
  return faults
}
