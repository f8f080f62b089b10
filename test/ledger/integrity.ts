import { type SQL, sql } from 'drizzle-orm'
import { describe, expect, test, vi } from 'vitest'
import { inspect, TRIGGERS } from '../../src/ledger/integrity.ts'
import { silent } from '../harness/silent-log.ts'
import type { OnLedger, Subject } from './subject.ts'

const triggersOf = ({ db }: Subject): Record<string, string> =>
  Object.fromEntries(
    db
      .all<{ name: string; sql: string }>(
        sql`SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'`,
      )
      .map((trigger) => [trigger.name, trigger.sql]),
  )

/** What is found at fault of the subject's own chain. */
const inspected = async ({ db, ledger, connection }: Subject): Promise<string[]> =>
  (await inspect(db, ledger, connection, silent)).filter((fault) => fault.includes(connection))

const forged =
  "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN OLD.type = 'none' BEGIN SELECT 1; END"
const weakened: [string, string, string[]][] = [
  ['one is missing', 'DROP TRIGGER audit_no_update', ['audit_no_update']],
  ['one is another', `DROP TRIGGER audit_no_delete; ${forged}`, ['audit_no_delete']],
  [
    'one is none of ours',
    "CREATE TRIGGER hush BEFORE INSERT ON audit WHEN NEW.type = 'refused' BEGIN SELECT RAISE(IGNORE); END",
    ['hush'],
  ],
  [
    'all are gone',
    Object.keys(TRIGGERS)
      .map((name) => `DROP TRIGGER ${name}`)
      .join(';'),
    Object.keys(TRIGGERS),
  ],
]

export function integrity(onLedger: OnLedger): void {
  test(
    'with the triggers that the migrations make',
    onLedger((subject) => {
      expect(triggersOf(subject)).toEqual(TRIGGERS)
    }),
  )

  test.each(weakened)('that is append-only again where %s, and says so', (_, change, names) =>
    onLedger(async (subject) => {
      const { db, ledger, connection } = subject
      await subject.append()
      // A trigger's own body has a semicolon.
      for (const statement of change.split(/;(?=\s?(?:DROP|CREATE))/)) db.run(sql.raw(statement))
      expect(await inspected(subject)).toEqual([])
      expect(triggersOf(subject)).toEqual(TRIGGERS)
      const [event] = ledger.events({ connections: [connection], limit: 1 }).rows
      expect(event).toMatchObject({ type: 'repaired', actor: null, outcome: null })
      for (const name of names) expect(event?.reason).toContain(name)
      subject.expectWhole(connection, 2)
      // Once told, there is nothing to tell.
      expect(await inspected(subject)).toEqual([])
      subject.expectWhole(connection, 2)
    })(),
  )

  describe('whose end', () => {
    const ofSecond = ({ connection }: Subject): SQL => sql`connection = ${connection} AND seq = 2`
    const tampered: [string, (subject: Subject) => SQL, string][] = [
      ['was changed', (own) => sql`UPDATE audit SET reason = 'forged' WHERE ${ofSecond(own)}`, 'was changed'],
      ['lost an event', (own) => sql`DELETE FROM audit WHERE ${ofSecond(own)}`, 'does not go on'],
      [
        'stands at another time',
        (own) =>
          sql`UPDATE audit SET position = position + 1024 * 60000 WHERE connection = ${own.connection} AND seq = 3`,
        'another time than its id',
      ],
    ]
    test.each(tampered)('%s is found', (_, change, said) =>
      onLedger(async (subject) => {
        const { db, ledger, connection } = subject
        for (let n = 0; n < 3; n++) await subject.append()
        expect(await inspected(subject)).toEqual([])
        for (const name of Object.keys(TRIGGERS)) db.run(sql.raw(`DROP TRIGGER ${name}`))
        db.run(change(subject))
        const [fault] = await inspect(db, ledger, `${connection}-other`, silent).then((faults) =>
          faults.filter((one) => one.includes(`of ${connection} `)),
        )
        expect(fault).toContain(said)
        // The store is everybody's.
        for (const name of Object.keys(TRIGGERS)) db.run(sql.raw(`DROP TRIGGER ${name}`))
        db.run(sql`DELETE FROM audit WHERE connection IN (${connection}, ${`${connection}-other`})`)
        for (const text of Object.values(TRIGGERS)) db.run(sql.raw(text))
      })(),
    )
  })

  test.each(['1970-01-01T00:00:10Z', '2300-01-01T00:00:00Z'])(
    'that takes nothing while the clock says %s, and goes on when it is right again',
    (time) =>
      onLedger(async (subject) => {
        await subject.append()
        vi.useFakeTimers({ toFake: ['Date'] })
        try {
          vi.setSystemTime(Date.parse(time))
          await expect(subject.append()).rejects.toThrow('the clock says')
        } finally {
          vi.useRealTimers()
        }
        await subject.append()
        subject.expectWhole(subject.connection, 2)
      })(),
  )
}
