import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { AuditEvent } from '../../src/ledger/event.ts'
import type { ChangeFilter, ChangeRecord, EventFilter } from '../../src/ledger/types.ts'
import type { Outcome } from '../../src/model/enums.ts'
import type { OnLedger, Subject } from './subject.ts'

/** Changes of three connections, by two callers, with three outcomes, over several milliseconds. */
interface History {
  connections: [string, string, string]
  callers: [string, string]
  events: AuditEvent[]
  changes: ChangeRecord[]
  middle: AuditEvent
}

const OUTCOMES: Outcome[] = ['applied', 'unknown', 'rejected']

async function historyOf({ connection, append, end, stateOf }: Subject): Promise<History> {
  const connections: History['connections'] = [connection, `${connection}-b`, `${connection}-c`]
  const callers: History['callers'] = [`${connection}-anna`, `${connection}-ben`]
  const intents: AuditEvent[] = []
  const events: AuditEvent[] = []
  for (let at = 0; at < 12; at++) {
    const place = { connection: connections[at % 3] ?? connection }
    const actor = { caller: callers[at % 2] ?? '', key: null, address: null }
    const intent = await append({ actor, resource: `${connection}:${at % 4}-${at}` }, place)
    intents.push(intent)
    events.push(intent, await end(intent, OUTCOMES[Math.floor(at / 3) % 3] ?? 'applied', place))
    // Ids and filters have the time to the millisecond.
    await pause(3)
  }
  const changes = intents.flatMap((intent) => stateOf(intent) ?? [])
  return { connections, callers, events, changes, middle: intents[6] as AuditEvent }
}

/** A filter with the rule that it stands for; it takes some of the history and leaves some. */
type Filter<F, T> = [string, (of: History) => Omit<F, 'limit'>, (row: T, of: History) => boolean]

const shifted = (instant: string) =>
  new Date(Date.parse(instant) + 2 * 3_600_000).toISOString().replace('Z', '+02:00')

const eventFilters: Filter<EventFilter, AuditEvent>[] = [
  ['since', ({ middle }) => ({ since: middle.at }), ({ at }, { middle }) => at >= middle.at],
  ['until', ({ middle }) => ({ until: middle.at }), ({ at }, { middle }) => at < middle.at],
  [
    'since, in another time zone',
    ({ middle }) => ({ since: shifted(middle.at) }),
    ({ at }, { middle }) => at >= middle.at,
  ],
  [
    'actor',
    ({ callers }) => ({ actor: callers[0] }),
    ({ actor }, { callers }) => actor?.caller === callers[0],
  ],
  [
    'resource',
    ({ middle }) => ({ resource: middle.resource ?? '' }),
    ({ resource }, { middle }) => resource === middle.resource,
  ],
  [
    'change',
    ({ middle }) => ({ change: middle.changeId ?? '' }),
    ({ changeId }, { middle }) => changeId === middle.changeId,
  ],
  ['outcome', () => ({ outcome: 'unknown' }), ({ outcome }) => outcome === 'unknown'],
  [
    'one connection',
    ({ connections }) => ({ connections: [connections[1]] }),
    ({ connection }, { connections }) => connection === connections[1],
  ],
  [
    'two connections',
    ({ connections }) => ({ connections: [connections[0], connections[2]] }),
    ({ connection }, { connections }) => connection !== connections[1],
  ],
  ['before', ({ middle }) => ({ before: middle.id }), ({ id }, { middle }) => id < middle.id],
  [
    'all of them at once',
    ({ middle, callers }) => ({
      since: middle.at,
      actor: callers[0],
      outcome: 'rejected',
      connections: [middle.connection],
    }),
    ({ at, actor, outcome, connection }, { middle, callers }) =>
      at >= middle.at &&
      actor?.caller === callers[0] &&
      outcome === 'rejected' &&
      connection === middle.connection,
  ],
]

/** A change's own id is a little older than its first event's, so times are told apart by the id. */
const changeFilters: Filter<ChangeFilter, ChangeRecord>[] = [
  ['actor', ({ callers }) => ({ actor: callers[0] }), ({ actor }, { callers }) => actor === callers[0]],
  [
    'resource',
    ({ middle }) => ({ resource: middle.resource ?? '' }),
    ({ resource }, { middle }) => resource === middle.resource,
  ],
  [
    'change',
    ({ middle }) => ({ change: middle.changeId ?? '' }),
    ({ id }, { middle }) => id === middle.changeId,
  ],
  [
    'states',
    () => ({ states: ['unknown', 'rejected', 'in_flight'] }),
    ({ state }) => state === 'unknown' || state === 'rejected',
  ],
  [
    'two connections',
    ({ connections }) => ({ connections: [connections[0], connections[2]] }),
    ({ connection }, { connections }) => connection !== connections[1],
  ],
  [
    'before',
    ({ middle }) => ({ before: middle.changeId ?? '' }),
    ({ id }, { middle }) => id < (middle.changeId ?? ''),
  ],
]

/** All pages of three, as a reader of the list asks for them; more than there can be are an error. */
function pages<T extends { id: string }>(read: (page: { before?: string; limit: number }) => T[]): T[] {
  let page = read({ limit: 3 })
  const seen = [...page]
  while (page.length > 0) {
    if (seen.length > 100) throw new Error('the pages do not end')
    page = read({ limit: 3, before: page.at(-1)?.id ?? '' })
    seen.push(...page)
  }
  return seen
}

export function history(onLedger: OnLedger): void {
  function expectFiltered<T>(found: T[], all: T[], rule: (row: T) => boolean) {
    const wanted = all.filter(rule)
    expect(found).toEqual(wanted.toReversed())
    expect([0, all.length]).not.toContain(wanted.length)
  }

  test.each(eventFilters)('of events by %s', (_, filter, rule) =>
    onLedger(async (subject) => {
      const of = await historyOf(subject)
      const asked = { connections: of.connections, ...filter(of), limit: 1000 }
      expectFiltered(subject.ledger.events(asked).rows, of.events, (event) => rule(event, of))
    })(),
  )

  test.each(changeFilters)('of changes by %s', (_, filter, rule) =>
    onLedger(async (subject) => {
      const of = await historyOf(subject)
      const asked = { connections: of.connections, ...filter(of), limit: 1000 }
      expectFiltered(subject.ledger.changes(asked).rows, of.changes, (change) => rule(change, of))
    })(),
  )

  describe.each([0, 51, 250])('over %i more connections than there are', (more) => {
    test(
      'as over those alone',
      onLedger(async (subject) => {
        const { connections: own, events, changes } = await historyOf(subject)
        const names = Array.from({ length: more }, (_, index) => `${subject.connection}-none-${index}`)
        const connections = [...names, ...own]
        expect(subject.ledger.events({ connections, limit: 1000 }).rows).toEqual(events.toReversed())
        expect(subject.ledger.changes({ connections, limit: 1000 }).rows).toEqual(changes.toReversed())
      }),
    )
  })

  test(
    'of no connection as an empty one',
    onLedger(async ({ append, ledger }) => {
      await append()
      expect(ledger.events({ connections: [], limit: 10 })).toEqual({ rows: [], end: null })
      expect(ledger.changes({ connections: [], limit: 10 })).toEqual({ rows: [], end: null })
    }),
  )

  test(
    'in pages that neither leave out nor repeat, whatever is appended meanwhile',
    onLedger(async (subject) => {
      const { connections, events, changes } = await historyOf(subject)
      const { append, ledger } = subject
      expect(pages((page) => ledger.changes({ connections, ...page }).rows)).toEqual(changes.toReversed())
      const [first] = ledger.events({ connections, limit: 1 }).rows
      await append()
      const rest = pages(
        (page) => ledger.events({ connections, ...page, before: page.before ?? first?.id ?? '' }).rows,
      )
      expect([first, ...rest]).toEqual(events.toReversed())
    }),
  )

  test(
    'of large events as a part that says whether it goes on',
    onLedger(async ({ append, connection, ledger }) => {
      const fields = { name: { action: 'set' as const, to: 'x'.repeat(400_000) } }
      const events: AuditEvent[] = []
      for (let n = 0; n < 20; n++) events.unshift(await append({ fields }))
      const seen: AuditEvent[] = []
      let parts = 0
      for (let complete = false; !complete; parts++) {
        if (parts > events.length) throw new Error('the parts do not end')
        const before = seen.at(-1)?.id
        const part = ledger.events({ connections: [connection], limit: 500, ...(before && { before }) })
        complete = part.end === null
        expect(part.rows.length).toBeLessThan(events.length)
        seen.push(...part.rows)
      }
      expect(seen).toEqual(events)
      expect(parts).toBeGreaterThan(1)
    }),
  )
}
