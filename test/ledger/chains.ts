import { expect, test, vi } from 'vitest'
import { type AuditEvent, GENESIS, hashOf, toEvent, toRow } from '../../src/ledger/event.ts'
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

  test(
    'whose ids ascend though the clock is set back, and stands still for more than a millisecond has ids for',
    onLedger(async ({ append, connection, expectWhole, ledger }) => {
      const first = await append()
      const earlier = Date.parse(first.at) - 3_600_000
      const clock = vi.spyOn(Date, 'now').mockReturnValue(earlier)
      const events = [first]
      try {
        for (let at = 0; at < 1100; at++) events.push(await append())
      } finally {
        clock.mockRestore()
      }
      events.push(await append())
      const ids = events.map(({ id }) => id)
      expect(ids).toEqual([...new Set(ids)].toSorted())
      // The clock's word stands beside them.
      expect(events.map(({ at }) => at).slice(1, -1)).toEqual(
        Array(1100).fill(new Date(earlier).toISOString()),
      )
      // No page loses one or shows one twice, wherever it begins.
      const paged: AuditEvent[] = []
      for (let before: string | null | undefined; before !== null;) {
        const { rows, end } = ledger.events({
          connections: [connection],
          limit: 97,
          ...(before && { before }),
        })
        paged.push(...rows)
        before = end
      }
      expect(paged.toReversed()).toEqual(events)
      expectWhole(connection, 1102)
    }),
  )

  test('whose hashes are those of its first version: a later member is absent where it does not apply', () => {
    const event = {
      id: '01a20000-0000-7000-8000-000000000001',
      connection: 'main',
      seq: 1,
      at: '2026-11-21T12:00:00.000Z',
      type: 'intent' as const,
      changeId: '01a20000-0000-7000-8000-000000000000',
      actor: { caller: 'billing', key: 'k1', address: '127.0.0.1' },
      alias: null,
      kind: 'credential' as const,
      resource: 'main:abc',
      fields: { name: { action: 'set' as const, to: 'Ünïcode ✓' } },
      widens: false,
      reason: null,
      requestId: 'request-1',
      outcome: null,
      upstream: { method: 'PUT', path: '/api_clients/abc' },
      previous: GENESIS,
    }
    expect(hashOf(event)).toBe('6046cf48f1af0bc5ea7483272938778886f7170bda516a4b9e76bb037a4b43f5')
    const read = toEvent(toRow({ ...event, hash: hashOf(event) }, 1))
    expect(hashOf(read)).toBe(read.hash)
    const { refusal: _, ...refused } = { ...event, refusal: { problem: 'forbidden', count: 2 } }
    expect(hashOf({ ...event, refusal: { problem: 'forbidden', count: 2 } })).not.toBe(hashOf(refused))
  })
}
