import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { FOLD_MS, SUBJECTS_COUNTED } from '../../src/ledger/refusals.ts'
import { type RefusedAttempt } from '../../src/ledger/types.ts'
import type { OnLedger, Subject } from './subject.ts'

const attempt = (resource: string, more: Partial<RefusedAttempt> = {}): RefusedAttempt => ({
  actor: { caller: 'billing', key: 'k1', address: '127.0.0.1' },
  problem: 'forbidden',
  alias: null,
  kind: 'credential',
  resource,
  requestId: `asking for ${resource}`,
  ...more,
})

/** The stored minute is moved back; no clock is faked. */
const aMinuteLater = ({ db, connection }: Subject): unknown =>
  db.run(sql`UPDATE refusals SET since = since - ${FOLD_MS} WHERE connection = ${connection}`)

const told = ({ ledger, connection }: Subject) =>
  ledger
    .events({ connections: [connection], limit: 1000 })
    .rows.toReversed()
    .map(({ type, actor, resource, refusal }) => [
      type,
      actor?.caller,
      resource,
      refusal?.problem,
      refusal?.count,
    ])

export function refusals(onLedger: OnLedger): void {
  test(
    'at once, and what follows within a minute together, under the first that was asked for',
    onLedger(async (subject) => {
      const { ledger, connection } = subject
      for (const resource of ['c:1', 'c:2', 'c:3', 'c:4']) await ledger.refuse(connection, attempt(resource))
      await ledger.flushRefusals()
      expect(told(subject)).toEqual([['refused', 'billing', 'c:1', 'forbidden', 1]])
      aMinuteLater(subject)
      await ledger.flushRefusals()
      await ledger.flushRefusals()
      expect(told(subject).slice(1)).toEqual([['refused', 'billing', 'c:2', 'forbidden', 3]])
      subject.expectWhole(connection, 2)
    }),
  )

  test(
    'with the next attempt where nobody looked meanwhile',
    onLedger(async (subject) => {
      const { ledger, connection } = subject
      for (const resource of ['c:1', 'c:2', 'c:3']) await ledger.refuse(connection, attempt(resource))
      aMinuteLater(subject)
      await ledger.refuse(connection, attempt('c:4'))
      await ledger.refuse(connection, attempt('c:5'))
      expect(told(subject).map(([, , resource, , count]) => [resource, count])).toEqual([
        ['c:1', 1],
        ['c:2', 3],
      ])
    }),
  )

  test(
    'at once where a clock was set back, instead of counting in silence',
    onLedger(async (subject) => {
      const { ledger, connection, db } = subject
      const anHourAhead = () =>
        db.run(sql`UPDATE refusals SET since = since + 3600000 WHERE connection = ${connection}`)
      for (const resource of ['c:1', 'c:2']) await ledger.refuse(connection, attempt(resource))
      anHourAhead()
      await ledger.refuse(connection, attempt('c:3'))
      expect(told(subject).map(([, , , , count]) => count)).toEqual([1, 2])
      await ledger.refuse(connection, attempt('c:4'))
      anHourAhead()
      await ledger.flushRefusals()
      expect(told(subject).map(([, , , , count]) => count)).toEqual([1, 2, 1])
    }),
  )

  test(
    'of a caller together, whatever keys and subjects it came with, and with up to eight of them',
    onLedger(async (subject) => {
      const { ledger, connection } = subject
      const as = (key: string) => attempt('c:1', { actor: { ...attempt('c:1').actor, key } })
      const refusalsTold = () =>
        ledger
          .events({ connections: [connection], limit: 10 })
          .rows.toReversed()
          .map(({ refusal }) => refusal)
      for (let n = 0; n < 200; n++) await ledger.refuse(connection, as(`jwt:${n}`))
      for (let n = 1; n < 200; n++) await ledger.refuse(connection, as(`jwt:${n}`))
      aMinuteLater(subject)
      await ledger.flushRefusals()
      expect(refusalsTold()).toEqual([
        { problem: 'forbidden', count: 1 },
        {
          problem: 'forbidden',
          count: 398,
          subjects: Array.from({ length: 8 }, (_, n) => `jwt:${n + 1}`),
          subjectCount: 199,
        },
      ])
      for (let n = 0; n < SUBJECTS_COUNTED + 5; n++) await ledger.refuse(connection, as(`jwt:${n}`))
      aMinuteLater(subject)
      await ledger.refuse(connection, as('jwt:last'))
      expect(refusalsTold()[2]).toMatchObject({
        count: SUBJECTS_COUNTED + 6,
        subjectCount: SUBJECTS_COUNTED,
      })
    }),
  )

  test(
    'apart for every caller, problem and connection',
    onLedger(async (subject) => {
      const { ledger, connection } = subject
      const other = { ...attempt('c:1').actor, caller: 'other' }
      for (let n = 0; n < 2; n++) {
        await ledger.refuse(connection, attempt('c:1'))
        await ledger.refuse(connection, attempt('c:1', { problem: 'not-found' }))
        await ledger.refuse(connection, attempt('c:1', { actor: other }))
        await ledger.refuse(connection, attempt('c:1', { actor: { ...other, key: 'k2' } }))
        await ledger.refuse(`${connection}-b`, attempt('c:1'))
      }
      expect(told(subject).map(([, caller, , problem]) => [caller, problem])).toEqual([
        ['billing', 'forbidden'],
        ['billing', 'not-found'],
        ['other', 'forbidden'],
      ])
    }),
  )

  test(
    'in one event a minute, however many there are, until a minute goes by without any',
    onLedger(async (subject) => {
      const { ledger, connection, db } = subject
      for (let minute = 0; minute < 4; minute++) {
        for (let n = 0; n < 50; n++) await ledger.refuse(connection, attempt(`c:${minute}-${n}`))
        const next = (await ledger.flushRefusals()) ?? 0
        expect(next - Date.now()).toBeLessThanOrEqual(FOLD_MS)
        aMinuteLater(subject)
        await ledger.flushRefusals()
      }
      expect(told(subject).map(([, , , , count]) => count)).toEqual([1, 49, 50, 50, 50])
      aMinuteLater(subject)
      await ledger.flushRefusals()
      expect(told(subject)).toHaveLength(5)
      expect(db.all(sql`SELECT 1 FROM refusals WHERE connection = ${connection}`)).toEqual([])
    }),
  )
}
