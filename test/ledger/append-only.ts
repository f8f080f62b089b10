import { type SQL, sql } from 'drizzle-orm'
import { v7 as uuidv7 } from 'uuid'
import { describe, expect, test } from 'vitest'
import { type AuditEvent, GENESIS } from '../../src/ledger/event.ts'
import type { OnLedger, Row, Subject } from './subject.ts'

/** A chain of two events, another chain, and the audit as it is then. */
interface Attacked extends Subject {
  victim: AuditEvent
  audit: Row[]
}

/** An insert of a forged event, which begins a chain of its own behind everything; `wrong` says what it does otherwise. */
function insert({ connection, audit }: Attacked, verb: string, wrong: Row, tail = ''): SQL {
  const last = audit.at(-1) ?? {}
  const row: Row = {
    ...last,
    id: uuidv7(),
    position: Number(last['position']) + 1,
    connection: `${connection}-forged`,
    seq: 1,
    previous: GENESIS,
    reason: 'forged',
    ...wrong,
  }
  return sql`${sql.raw(verb)} INTO audit (${sql.raw(Object.keys(row).join(', '))}) VALUES (${sql.join(
    Object.values(row).map((value) => sql`${value}`),
    sql`, `,
  )}) ${sql.raw(tail)}`
}

/** The place of an event that is there. */
const taken = ({ audit }: Attacked): Row => ({ position: audit.at(-1)?.['position'] ?? null })
/** What goes on with the victim's chain, as the ledger would. */
const next = ({ victim }: Attacked): Row => ({
  connection: victim.connection,
  seq: victim.seq + 1,
  previous: victim.hash,
})
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
  ['INSERT on a position', (on) => insert(on, 'INSERT', taken(on))],
  ['INSERT before others', (on) => insert(on, 'INSERT', { position: 1 })],
  ['INSERT before the beginning', (on) => insert(on, 'INSERT', { position: -2 })],
  ['INSERT without a position', (on) => insert(on, 'INSERT', { position: null })],
  ['INSERT OR REPLACE on a position', (on) => insert(on, 'INSERT OR REPLACE', taken(on))],
  ['REPLACE', (on) => insert(on, 'REPLACE', { ...next(on), ...taken(on) })],
  ['INSERT OR IGNORE', (on) => insert(on, 'INSERT OR IGNORE', taken(on))],
  ['UPSERT on the position', (on) => insert(on, 'INSERT', taken(on), `ON CONFLICT (position) ${UPSERT}`)],
  ['UPSERT on anything', (on) => insert(on, 'INSERT', taken(on), `ON CONFLICT ${UPSERT}`)],
  ['UPSERT that does nothing', (on) => insert(on, 'INSERT', taken(on), 'ON CONFLICT DO NOTHING')],
  ['INSERT on a place in the chain', (on) => insert(on, 'INSERT', { ...next(on), seq: on.victim.seq })],
  ['INSERT that leaves a gap', (on) => insert(on, 'INSERT', { ...next(on), seq: on.victim.seq + 2 })],
  ['INSERT that follows another event', (on) => insert(on, 'INSERT', { ...next(on), previous: GENESIS })],
  ['INSERT of a first event that follows one', (on) => insert(on, 'INSERT', { previous: on.victim.hash })],
  ['INSERT of a first event that is not the first', (on) => insert(on, 'INSERT', { seq: 2 })],
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
        on.db.run(insert(on, 'INSERT', next(on)))
        expect(on.rows()).toHaveLength(on.audit.length + 1)
        const { position } = on.rows().at(-1) ?? {}
        on.db.run(insert(on, 'INSERT', { position: Number(position) + 1 }))
        expect(on.rows()).toHaveLength(on.audit.length + 2)
      }),
    )
  })
}
