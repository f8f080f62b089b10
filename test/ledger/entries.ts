import { expect, test } from 'vitest'
import type { AuditEvent } from '../../src/ledger/event.ts'
import type { Entry, EventDraft } from '../../src/ledger/types.ts'
import type { JsonObject } from '../../src/lib/json.ts'
import type { OnLedger, Subject } from './subject.ts'

const applied = (values: object, secretChanged: boolean): Pick<Entry, 'applied'> => ({
  applied: { values: values as JsonObject, secretChanged },
})

/** What JSON cannot hold. */
const UNWRITABLE = { name: 1n }

const scopeOf = (key: string) => ({
  caller: 'billing',
  subject: '',
  kind: 'credential' as const,
  resource: 'main:abc',
  key,
})

type Failing = (before: AuditEvent) => [Partial<EventDraft>, Partial<Omit<Entry, 'draft'>>]

/** Entries that fail when some of their rows have been written, each further on than the one before. */
const failures: [string, Failing][] = [
  ['SQLite refuses its change', ({ changeId }) => [{ changeId }, applied({ name: 'second' }, true)]],
  ['what was applied cannot be written', ({ resource }) => [{ resource }, applied(UNWRITABLE, true)]],
  [
    'the answer of its key cannot be written',
    ({ resource, connection }) => [
      { resource },
      {
        ...applied({ name: 'second' }, true),
        reserve: { ...scopeOf(connection), fingerprint: 'f' },
        answer: UNWRITABLE,
      },
    ],
  ],
]

const applying = ({ append }: Subject, resource: string, values: object, secretChanged: boolean) =>
  append({ resource, type: 'outcome', outcome: 'applied' }, applied(values, secretChanged))

export function entries(onLedger: OnLedger): void {
  test.each(failures)('when %s', (_, failing) =>
    onLedger(async ({ append, connection, everything, expectWhole, ledger, stateOf }) => {
      const before = await append({}, applied({ name: 'first' }, false))
      const stored = everything()
      await expect(append(...failing(before))).rejects.toThrow()
      expect(everything()).toEqual(stored)
      expect(stateOf(before)?.state).toBe('in_flight')
      expect(ledger.reservedKey(scopeOf(connection))).toBeUndefined()
      await append()
      expectWhole(connection, 2)
    })(),
  )

  test.each(failures)('when %s, between others that are appended at once', (_, failing) =>
    onLedger(async ({ append, connection, expectWhole, ledger }) => {
      const before = await append({}, applied({ name: 'first' }, false))
      const results = await Promise.allSettled([
        append(),
        append(...failing(before)),
        append(),
        append(...failing(before)),
      ])
      const wanted = ['fulfilled', 'rejected', 'fulfilled', 'rejected']
      expect(results.map(({ status }) => status)).toEqual(wanted)
      expectWhole(connection, 3)
      expect(ledger.changes({ connections: [connection], limit: 10 }).rows).toHaveLength(3)
      expect(ledger.resource('credential', before.resource ?? '')).toEqual({
        applied: { name: 'first' },
        secretChanges: 0,
      })
    })(),
  )

  test(
    'and the record of the resource with it, for each kind by itself',
    onLedger(async (subject) => {
      const { append, connection, ledger } = subject
      await applying(subject, connection, { name: 'first', enabled: true }, true)
      await applying(subject, connection, { name: 'second', roles: ['Ünïcode ✓'] }, false)
      await append({ kind: 'role', resource: connection }, applied({ name: 'role' }, true))
      expect(ledger.resource('credential', connection)).toEqual({
        applied: { name: 'second', enabled: true, roles: ['Ünïcode ✓'] },
        secretChanges: 1,
      })
      expect(ledger.resource('role', connection)).toEqual({ applied: { name: 'role' }, secretChanges: 1 })
      expect(ledger.resource('permission', connection)).toEqual({ applied: {}, secretChanges: 0 })
    }),
  )

  test.each(['settled', 'resolved'] as const)(
    'and no value of a change that is %s over one of a change whose intent came later',
    (type) =>
      onLedger(async ({ append, end, connection, ledger }) => {
        const inForce = () => ledger.resource('credential', connection).applied
        const begin = () => append({ resource: connection })
        const late = ({ changeId }: AuditEvent, values: object) =>
          append({ changeId, resource: connection, type, outcome: 'applied' }, applied(values, false))
        const older = await begin()
        const newer = await begin()
        await end(newer, 'applied', applied({ name: 'newer', enabled: true }, false))
        await late(older, { name: 'older', reference: 'older' })
        expect(inForce()).toEqual({ name: 'newer', enabled: true, reference: 'older' })
        await late(newer, { name: 'newer still' })
        expect(inForce()).toEqual({ name: 'newer still', enabled: true, reference: 'older' })
        // What a provider tells is the newest word, whichever change it answers.
        await end(older, 'applied', applied({ name: 'told' }, false))
        expect(inForce()).toEqual({ name: 'told', enabled: true, reference: 'older' })
      })(),
  )
}
