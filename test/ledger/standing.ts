import { expect, test } from 'vitest'
import type { EventDraft } from '../../src/ledger/types.ts'
import type { ChangeState, Outcome } from '../../src/model/enums.ts'
import type { OnLedger, Subject } from './subject.ts'

const states = [
  'in_flight',
  'unknown',
  'needs_attention',
  'partial',
  'applied',
  'rejected',
  'not_sent',
  'superseded',
] as const satisfies ChangeState[]
/** Those of which nobody knows whether they are in force. */
const open: ChangeState[] = ['in_flight', 'unknown', 'needs_attention', 'partial']

const named = (...fields: string[]) =>
  Object.fromEntries(fields.map((field) => [field, { action: 'set' as const, to: 'After' }]))

/** A change in the state. */
async function changeIn({ append, end }: Subject, state: ChangeState) {
  const intent = await append()
  return { intent, last: state === 'in_flight' ? intent : await end(intent, state) }
}

/** The events that begin a change: an intent, and the outcome of one that has nothing to change. */
const beginnings = [
  ['an intent', {}],
  ['a no-op', { type: 'outcome', outcome: 'applied', upstream: null }],
] as const

export function standing(onLedger: OnLedger): void {
  test.each(states)('that is %s', (state) =>
    onLedger(async (subject) => {
      const { connection, stateOf } = subject
      const { intent, last } = await changeIn(subject, state)
      expect(stateOf(intent)).toEqual({
        id: intent.changeId,
        connection,
        kind: 'credential',
        resource: intent.resource,
        actor: 'billing',
        state,
        since: last.at,
      })
    })(),
  )

  test(
    'that goes on after an unknown outcome, and is settled',
    onLedger(async (subject) => {
      const { append, ledger, stateOf } = subject
      const { intent, last } = await changeIn(subject, 'unknown')
      const same = { changeId: intent.changeId, resource: intent.resource }
      const attempt = await append({ ...same, type: 'attempt' })
      expect(stateOf(intent)).toMatchObject({ state: 'in_flight', since: attempt.at })
      const settled = await append({ ...same, type: 'settled', outcome: 'applied' })
      expect(stateOf(intent)).toMatchObject({ state: 'applied', since: settled.at })
      await append()
      expect(ledger.story(intent.changeId ?? '')).toEqual([intent, last, attempt, settled])
    }),
  )

  test.each(beginnings.flatMap(([title, begun]) => states.map((state) => ({ title, begun, state }))))(
    'that is $state and meets $title of its resource: nothing has been made yet',
    ({ begun, state }) =>
      onLedger(async (subject) => {
        const { append, connection, expectWhole, stateOf } = subject
        const { intent, last } = await changeIn(subject, state)
        const newer = await append({ ...begun, resource: intent.resource })
        expect(stateOf(newer)?.state).toBe(newer.outcome ?? 'in_flight')
        expect(stateOf(intent)).toMatchObject({ state, since: last.at })
        expectWhole(connection, newer.seq)
      })(),
  )

  /** How a newer change ends, and whether it may take the place of older ones then. */
  const ends: [Outcome, boolean][] = [
    ['applied', true],
    ['rejected', false],
    ['partial', false],
    ['unknown', false],
    ['not_sent', false],
    ['needs_attention', false],
  ]
  test.each(states.flatMap((state) => ends.map(([outcome, takes]) => ({ state, outcome, takes }))))(
    'that is $state and meets a newer one that is $outcome',
    ({ state, outcome, takes }) =>
      onLedger(async (subject) => {
        const { append, end, ledger, stateOf } = subject
        const { intent, last } = await changeIn(subject, state)
        const newer = await append({ resource: intent.resource })
        const ended = await end(newer, outcome)
        const added = ledger.story(intent.changeId ?? '').filter(({ seq }) => seq > ended.seq)
        if (takes && open.includes(state)) {
          const upstream = { supersededBy: newer.changeId }
          expect(added).toMatchObject([{ type: 'settled', outcome: 'superseded', fields: {}, upstream }])
          expect(stateOf(intent)).toMatchObject({ state: 'superseded', since: added[0]?.at })
        } else {
          expect(added).toEqual([])
          expect(stateOf(intent)).toMatchObject({ state, since: last.at })
        }
      })(),
  )

  test.each<[string, Partial<EventDraft>, boolean]>([
    ['wrote other fields', { fields: named('reference') }, false],
    ['wrote some of its fields', { fields: named('name') }, false],
    ['wrote all of its fields', { fields: named('name', 'reference') }, true],
    ['wrote all of its fields and more', { fields: named('name', 'reference', 'enabled') }, true],
    [
      'carried what it did not alter',
      { fields: named('name'), unchanged: { carried: ['reference', 'email'] } },
      true,
    ],
    [
      'was asked for what was there already',
      { fields: named('name'), unchanged: { kept: ['reference'] } },
      false,
    ],
  ])('that meets a newer one that %s', (_, draft, gives) =>
    onLedger(async ({ append, end, stateOf }) => {
      const older = await append({ fields: named('name', 'reference') })
      await end(older, 'unknown')
      await end(await append({ ...draft, resource: older.resource }), 'applied')
      expect(stateOf(older)?.state).toBe(gives ? 'superseded' : 'unknown')
    })(),
  )

  test(
    'whose place only a newer one takes, however late an older one ends',
    onLedger(async (subject) => {
      const { append, end, stateOf } = subject
      const older = await append()
      const newer = await append({ resource: older.resource })
      await end(newer, 'unknown')
      const same = { changeId: older.changeId, resource: older.resource }
      await append({ ...same, type: 'attempt' })
      await end(older, 'applied')
      expect(stateOf(newer)?.state).toBe('unknown')
    }),
  )

  test.each(['settled', 'resolved'] as const)('that meets a newer one that was %s as applied', (type) =>
    onLedger(async (subject) => {
      const { append, end, stateOf } = subject
      const older = await append()
      await end(older, 'unknown')
      const newer = await append({ resource: older.resource })
      await end(newer, 'unknown')
      const { changeId, resource } = newer
      await append({ changeId, resource, type, outcome: 'applied', upstream: null })
      expect([stateOf(older)?.state, stateOf(newer)?.state]).toEqual(['superseded', 'applied'])
    })(),
  )

  test(
    'that meets a newer one of another kind or resource',
    onLedger(async (subject) => {
      const { append, end, stateOf } = subject
      const { intent } = await changeIn(subject, 'unknown')
      await end(await append(), 'applied')
      await end(await append({ kind: 'role', resource: intent.resource }), 'applied')
      expect(stateOf(intent)?.state).toBe('unknown')
    }),
  )

  test(
    'among all that are open',
    onLedger(async (subject) => {
      const { connection, ledger, append, end } = subject
      const first = await append()
      const { resource } = first
      const all = [first]
      for (const state of states.slice(1)) {
        const intent = await append({ resource, fields: named(state) })
        await end(intent, state as Outcome)
        all.push(intent)
      }
      const openOnes = all.filter((_, index) => open.includes(states[index] as ChangeState))
      expect(ledger.open(connection, 'credential', resource ?? '').toSorted()).toEqual(
        openOnes.map(({ changeId }) => changeId).toSorted(),
      )
      expect(ledger.open(connection, 'role', resource ?? '')).toEqual([])
    }),
  )

  const overtaking: [ChangeState, boolean][] = [
    ['in_flight', true],
    ['applied', true],
    ['partial', true],
    ['unknown', true],
    ['needs_attention', true],
    ['rejected', false],
    ['not_sent', false],
  ]
  test.each(overtaking)('that is overtaken by a newer one that is %s: %s', (state, is) =>
    onLedger(async (subject) => {
      const { append, end, ledger } = subject
      const older = await append({ fields: named('name', 'reference') })
      await end(older, 'unknown')
      const newer = await append({ resource: older.resource, fields: named('name', 'enabled') })
      if (state !== 'in_flight') await end(newer, state)
      expect(ledger.isOvertaken(older.changeId ?? '')).toBe(is)
      expect(ledger.isOvertaken(newer.changeId ?? '')).toBe(false)
    })(),
  )

  test.each<[string, Partial<EventDraft>, boolean]>([
    ['alters other fields', { fields: named('enabled') }, false],
    ['was asked for one of its fields', { fields: {}, unchanged: { kept: ['reference'] } }, true],
    ['carries one of its fields', { fields: named('enabled'), unchanged: { carried: ['name'] } }, true],
    ['carries other fields', { fields: {}, unchanged: { kept: ['enabled'], carried: ['email'] } }, false],
  ])('that meets a newer one that %s is overtaken: %s', (_, draft, is) =>
    onLedger(async (subject) => {
      const { append, end, ledger } = subject
      const older = await append({ fields: named('name', 'reference') })
      await end(older, 'unknown')
      await end(await append({ ...draft, resource: older.resource }), 'applied')
      expect(ledger.isOvertaken(older.changeId ?? '')).toBe(is)
      const noOp = { type: 'outcome', outcome: 'applied', upstream: null } as const
      const another = await append({ fields: named('name', 'reference') })
      await end(another, 'unknown')
      await append({ ...draft, ...noOp, resource: another.resource })
      expect(ledger.isOvertaken(another.changeId ?? '')).toBe(is)
    })(),
  )
}
