import { expect, test } from 'vitest'
import type { ChangeState } from '../../src/ledger/ledger.ts'
import type { OnLedger, Subject } from './subject.ts'

/** States of a change, and whether a newer one takes its place. */
const states: [ChangeState, boolean][] = [
  ['in_flight', true],
  ['unknown', true],
  ['needs_attention', true],
  ['partial', true],
  ['applied', false],
  ['rejected', false],
  ['not_sent', false],
  ['superseded', false],
]

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

  test.each(beginnings)('that %s of another kind or resource leaves alone', (_, begun) =>
    onLedger(async (subject) => {
      const { append, stateOf } = subject
      const { intent } = await changeIn(subject, 'unknown')
      await append({ ...begun })
      await append({ ...begun, kind: 'role', resource: intent.resource })
      expect(stateOf(intent)?.state).toBe('unknown')
    })(),
  )

  const cases = beginnings.flatMap(([title, begun]) =>
    states.map(([state, gives]) => ({ title, begun, state, gives })),
  )
  test.each(cases)('that is $state and meets $title of its resource', ({ begun, state, gives }) =>
    onLedger(async (subject) => {
      const { append, connection, expectWhole, ledger, stateOf } = subject
      const { intent, last } = await changeIn(subject, state)
      const newer = await append({ ...begun, resource: intent.resource })
      expect(stateOf(newer)?.state).toBe(newer.outcome ?? 'in_flight')
      const added = ledger.story(intent.changeId ?? '').filter(({ seq }) => seq > newer.seq)
      if (gives) {
        expect(added).toMatchObject([
          {
            type: 'settled',
            outcome: 'superseded',
            resource: intent.resource,
            upstream: { supersededBy: newer.changeId },
          },
        ])
        expect(stateOf(intent)).toMatchObject({ state: 'superseded', since: added[0]?.at })
      } else {
        expect(added).toEqual([])
        expect(stateOf(intent)).toMatchObject({ state, since: last.at })
      }
      expectWhole(connection, newer.seq + added.length)
    })(),
  )
}
