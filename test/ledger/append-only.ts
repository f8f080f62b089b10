import { type SQL, sql } from 'drizzle-orm'
import { v7 as uuidv7 } from 'uuid'
import { describe, expect, test } from 'vitest'
import type { AuditEvent } from '../../src/ledger/event.ts'
import type { OnLedger, Row, Subject } from './subject.ts'

/** A chain of two events, another chain, and the audit as it is then. */
interface Attacked extends Subject {
  victim: AuditEvent
  audit: Row[]
}

/** An insert of a forged event; it clashes with the victim in the columns that are named. */
function insert({ connection, audit }: Attacked, verb: string, clashes: string[], tail = ''): SQL {
  const row = audit.at(-1) ?? {}
  const fresh: Row = { id: uuidv7(), connection: `${connection}-forged`, seq: 1, reason: 'forged' }
  const columns = Object.keys(row).filter((name) => name !== 'rowid' || clashes.includes(name))
  const values = columns.map((name) => (name in fresh && !clashes.includes(name) ? fresh[name] : row[name]))
  return sql`${sql.raw(verb)} INTO audit (${sql.raw(columns.join(', '))}) VALUES (${sql.join(
    values.map((value) => sql`${value}`),
    sql`, `,
  )}) ${sql.raw(tail)}`
}

const PLACE = ['connection', 'seq']
const UPSERT = "DO UPDATE SET reason = 'forged'"

const attacks: [string, (on: Attacked) => SQL][] = [
  ['UPDATE', ({ victim }) => sql`UPDATE audit SET reason = 'forged' WHERE id = ${victim.id}`],
  ['UPDATE of everything', () => sql`UPDATE audit SET reason = 'forged'`],
  ['UPDATE that changes nothing', () => sql`UPDATE audit SET reason = reason`],
  ['UPDATE of the rowid', () => sql`UPDATE audit SET rowid = rowid + 100`],
  ['UPDATE OR REPLACE', ({ victim }) => sql`UPDATE OR REPLACE audit SET seq = 1 WHERE id = ${victim.id}`],
  ['UPDATE OR IGNORE', () => sql`UPDATE OR IGNORE audit SET seq = seq + 100`],
  ['DELETE', ({ victim }) => sql`DELETE FROM audit WHERE id = ${victim.id}`],
  ['DELETE of everything', () => sql`DELETE FROM audit`],
  ['INSERT on the place in the chain', (on) => insert(on, 'INSERT', PLACE)],
  ['INSERT on the id', (on) => insert(on, 'INSERT', ['id'])],
  ['INSERT on the rowid', (on) => insert(on, 'INSERT', ['rowid'])],
  ['INSERT OR REPLACE on the place in the chain', (on) => insert(on, 'INSERT OR REPLACE', PLACE)],
  ['INSERT OR REPLACE on the id', (on) => insert(on, 'INSERT OR REPLACE', ['id'])],
  ['INSERT OR REPLACE on the rowid', (on) => insert(on, 'INSERT OR REPLACE', ['rowid'])],
  ['REPLACE', (on) => insert(on, 'REPLACE', [...PLACE, 'id', 'rowid'])],
  ['INSERT OR IGNORE', (on) => insert(on, 'INSERT OR IGNORE', PLACE)],
  [
    'UPSERT on the place in the chain',
    (on) => insert(on, 'INSERT', PLACE, `ON CONFLICT (connection, seq) ${UPSERT}`),
  ],
  ['UPSERT on the id', (on) => insert(on, 'INSERT', ['id'], `ON CONFLICT (id) ${UPSERT}`)],
  ['UPSERT on anything', (on) => insert(on, 'INSERT', ['id'], `ON CONFLICT ${UPSERT}`)],
  ['UPSERT that does nothing', (on) => insert(on, 'INSERT', PLACE, 'ON CONFLICT DO NOTHING')],
]

export function appendOnly(onLedger: OnLedger): void {
  describe.each(['ON', 'OFF'])('with recursive_triggers %s', (recursive) => {
    const attacked = (attack: (on: Attacked) => Promise<void> | void) =>
      onLedger(async (subject) => {
        const { append, connection, db, rows } = subject
        db.run(sql.raw(`PRAGMA recursive_triggers = ${recursive}`))
        try {
          await append()
          await append({}, { connection: `${connection}-other` })
          const victim = await append()
          await attack({ ...subject, victim, audit: rows() })
        } finally {
          db.run(sql`PRAGMA recursive_triggers = ON`)
        }
      })

    test.each(attacks)('refuses %s', (_, statement) =>
      attacked(async (on) => {
        const { append, audit, commit, connection, db, expectWhole, rows } = on
        expect(() => db.run(statement(on))).toThrow()
        expect(rows()).toEqual(audit)
        // Inside a transaction it takes nothing else with it, and the chain goes on.
        await expect(commit(() => void db.run(statement(on)))).rejects.toThrow()
        expect(rows()).toEqual(audit)
        await append()
        expectWhole(connection, 3)
      })(),
    )

    test(
      'says why',
      attacked(({ db }) => {
        let said: unknown
        try {
          db.run(sql`DELETE FROM audit`)
        } catch (error) {
          said = error
        }
        const words = [said, (said as Error).cause].map(String).join(' ')
        expect(words).toContain('the audit is append-only: DELETE refused')
      }),
    )

    test(
      'takes an event in a place of its own, as the ledger makes them',
      attacked((on) => {
        on.db.run(insert(on, 'INSERT', []))
        expect(on.rows()).toHaveLength(on.audit.length + 1)
      }),
    )
  })
}
