import { expect, test } from 'vitest'
import { hashOf } from '../../src/ledger/event.ts'
import { openLedger } from '../../src/ledger/ledger.ts'
import { draftOf, type OnLedger } from './subject.ts'

export function chains(onLedger: OnLedger): void {
  test(
    'of every event, from 1 and without gaps',
    onLedger(async ({ append, connection, expectWhole }) => {
      for (let at = 0; at < 5; at++) await append()
      expectWhole(connection, 5)
    }),
  )

  test(
    'of every event that is appended at once',
    onLedger(async ({ append, connection, expectWhole }) => {
      const appended = await Promise.all(Array.from({ length: 40 }, () => append()))
      expect(new Set(appended.map(({ seq }) => seq)).size).toBe(40)
      expectWhole(connection, 40)
    }),
  )

  test(
    'for each connection by itself',
    onLedger(async ({ append, connection, expectWhole }) => {
      const other = `${connection}-other`
      await Promise.all(
        Array.from({ length: 30 }, (_, at) => append({}, { connection: at % 3 === 0 ? other : connection })),
      )
      expectWhole(other, 10)
      expectWhole(connection, 20)
    }),
  )

  test(
    'whose events come back as they were appended',
    onLedger(async ({ append, connection, ledger }) => {
      const event = await append({ reason: 'Grund: „Rotation“', alias: 'billing-worker', widens: true })
      expect(ledger.events({ connections: [connection], limit: 10 }).rows).toEqual([event])
      expect(event).toMatchObject({ reason: 'Grund: „Rotation“', alias: 'billing-worker', widens: true })
      const bare = await append({ actor: null, changeId: null, kind: null, resource: null, upstream: null })
      expect(ledger.events({ connections: [connection], limit: 10 }).rows).toEqual([bare, event])
    }),
  )

  test(
    'that shows a change of any member, wherever it stands',
    onLedger(async ({ append }) => {
      const event = await append()
      for (const member of Object.keys(event).filter((name) => name !== 'hash'))
        expect(hashOf({ ...event, [member]: 'forged' }), member).not.toBe(event.hash)
      expect(hashOf({ ...event, fields: { name: { action: 'set', to: 'forged' } } })).not.toBe(event.hash)
    }),
  )

  test(
    'that a ledger opened later goes on with',
    onLedger(async ({ append, connection, db, commit, expectWhole }) => {
      await append()
      const later = openLedger(db, commit)
      await later.append({ connection, draft: draftOf() })
      await append()
      expectWhole(connection, 3)
    }),
  )
}
