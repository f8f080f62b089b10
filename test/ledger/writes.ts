import { expect, test } from 'vitest'
import type { AuditEvent } from '../../src/ledger/event.ts'
import type { OnLedger } from './subject.ts'

const atOf = ({ at }: AuditEvent): number => Date.parse(at)

export function writes(onLedger: OnLedger): void {
  test(
    'that may have left, at the time of their end',
    onLedger(async ({ connection, append, ledger }) => {
      const since = (from: number, most = 100) => ledger.writesSince(connection, from, most)
      const { changeId, resource, at } = await append()
      const of = { changeId, resource }
      const from = Date.parse(at)
      // An intent alone, and one whose write was kept, are no writes.
      const refused = await append()
      const unsent = { changeId: refused.changeId, resource: refused.resource, outcome: 'not_sent' as const }
      await append({ ...unsent, type: 'outcome' })
      expect(since(from)).toEqual([])

      // What comes before a repeat tells of the attempt before it.
      await append({ ...of, type: 'attempt', upstream: { attempt: 1, shown: 'not_sent', status: null } })
      expect(since(from)).toEqual([])
      const shown = { attempt: 2, shown: 'rejected', status: 429 }
      const throttled = await append({ ...of, type: 'attempt', upstream: shown })
      const unknown = await append({ ...of, type: 'outcome', outcome: 'unknown' })
      expect(since(from)).toEqual([unknown, throttled].map(atOf))

      // A change that goes on, in the place of an intent, and what settles one, were sent by nobody.
      await append({ ...of, type: 'attempt', upstream: { resumed: 'unknown' } })
      await append({ ...of, type: 'settled', outcome: 'applied', upstream: null })
      await append({ type: 'outcome', outcome: 'applied', upstream: null })
      const rejected = await append({ ...of, type: 'outcome', outcome: 'rejected' })
      expect(since(from)).toEqual([rejected, unknown, throttled].map(atOf))
      expect(since(from, 2)).toEqual([rejected, unknown].map(atOf))
      expect(since(atOf(rejected) + 1)).toEqual([])
    }),
  )
}
