import { and, desc, eq, gt, gte, inArray, lt, type SQL, sql } from 'drizzle-orm'
import type { AnySQLiteColumn } from 'drizzle-orm/sqlite-core'
import { changeStates } from '../model/enums.ts'
import { encodedSpelling } from '../model/resource-id.ts'
import { toEvent } from './event.ts'
import { firstIdAt, firstPosition, timeOf } from './position.ts'
import * as schema from './schema.ts'
import type { ChangeFilter, ChangeRecord, Db, EventFilter, Filter, Lists, Slice } from './types.ts'

/** Characters after which a slice of events ends: it has to fit into one RPC (32 MiB). */
const SLICE_SIZE = 4 * 1024 * 1024
/** Rows read at a time: few at first, because events may be large and a page may need no more. */
const PART = { first: 16, most: 64 }
/**
 * Index entries scanned at a time for rows that match the other filters too, and in one slice. This blocks the event
 * loop.
 */
const WINDOW = 2000
const WALK = 10 * WINDOW

/** Before and after every id. */
const OLDEST = ''
const NEWEST = '~'

/** A range of one index, newest first. */
interface Range<T> {
  /** Those between `from`, inclusive, and `before` that match; at most `limit`. */
  rows: { all(values: Record<string, unknown>): T[] }
  /**
   * Of everything in the range before `before`, or in its millisecond, the id of the `WINDOW`th, which is more than a
   * millisecond has; absent where everything in it matches.
   */
  window: { get(values: Record<string, unknown>): { id: string } | undefined } | undefined
}

/** The place where a list was left: everything after `id` has been looked at. */
interface Stop {
  id: string
  stopped: true
}

/** The positions that ids from `from` on and before `before` can have: an id tells its millisecond, and no more. */
const positionsOf = (from: string, before: string) => ({
  lowest: from === OLDEST ? 0 : firstPosition(timeOf(from)),
  above: before === NEWEST ? Number.MAX_SAFE_INTEGER : firstPosition(timeOf(before) + 1),
})

/** The rows of a range; as much of it as one slice may go through. */
function* inParts<T extends { id: string }>(
  { rows, window }: Range<T>,
  { before: newest, oldest, ...values }: { before: string; oldest: string } & Record<string, unknown>,
): Generator<T | Stop, undefined> {
  let before = newest
  let limit = PART.first
  for (let walked = 0; ; walked += WINDOW) {
    if (walked === WALK) {
      yield { id: before, stopped: true }
      return undefined
    }
    const end = window?.get({ ...values, before, ...positionsOf(oldest, before) })?.id ?? OLDEST
    const from = end > oldest ? end : oldest
    for (;;) {
      const found = rows.all({ ...values, before, from, ...positionsOf(from, before), limit })
      yield* found
      if (found.length < limit) break
      before = found.at(-1)?.id ?? ''
      limit = Math.min(limit * 2, PART.most)
    }
    if (from === oldest) return undefined
    before = from
  }
}

/** One list out of several that are each newest first. */
function* newestFirst<T extends { id: string }>(lists: Iterator<T, undefined>[]): Generator<T, undefined> {
  const heads = lists.map((list) => ({ list, row: list.next().value }))
  for (;;) {
    let newest = heads[0]
    for (const head of heads) if (head.row && head.row.id > (newest?.row?.id ?? '')) newest = head
    if (!newest?.row) return undefined
    yield newest.row
    newest.row = newest.list.next().value
  }
}

/** Takes rows until there are enough of them, or no more that may be taken now. */
function sliceOf<T extends { id: string }>(
  source: Iterator<T | Stop, undefined>,
  isFull: (rows: readonly T[]) => boolean,
): Slice<T> {
  const rows: T[] = []
  while (!isFull(rows)) {
    const { value } = source.next()
    if (!value) return { rows, end: null }
    if ('stopped' in value) return { rows, end: value.id }
    rows.push(value)
  }
  return { rows, end: rows.at(-1)?.id ?? null }
}

/** The lists of events and of changes on a migrated database. */
export function openLists(db: Db): Lists {
  const { audit, changes } = schema
  const place = (name: string) => sql.placeholder(name)

  /** Many names are bound as one value: a Durable Object binds at most 100. Few are left to the planner. */
  const among = (connection: SQL, names: readonly string[]): SQL =>
    names.length > 50
      ? sql`${connection} IN (SELECT value FROM json_each(${JSON.stringify(names)}))`
      : inArray(connection, [...names])

  /** Keeps SQLite from the indexes of a column, by the plus. */
  const plain = (column: AnySQLiteColumn): SQL => sql`+${column}`

  /**
   * Prepares the list of what fits `chosen`, which has an index that goes on in the order of the ids, or of the positions
   * of events, so that nothing is sorted, and `others` too.
   */
  function rangeOf<T extends typeof audit | typeof changes>(
    table: T,
    chosen: SQL | undefined,
    others: (SQL | undefined)[],
  ): Range<T['$inferSelect']> {
    const { id } = table as typeof audit
    const isAudit = (table as unknown) === audit
    const order = isAudit ? audit.position : id
    const above = isAudit ? lt(order, place('above')) : undefined
    const before = lt(id, place('before'))
    const from = and(isAudit ? gte(order, place('lowest')) : undefined, gte(id, place('from')))
    const rows = db
      .select()
      .from(table as typeof audit)
      .where(and(chosen, above, before, from, ...others))
      .orderBy(desc(order))
      .limit(place('limit'))
      .prepare()
    // Counted in the index alone: only the last one's row is read.
    const last = db
      .select({ order })
      .from(table as typeof audit)
      .where(and(chosen, above ?? before))
      .orderBy(desc(order))
      .limit(1)
      .offset(WINDOW - 1)
    const window = db
      .select({ id })
      .from(table as typeof audit)
      .where(eq(order, last))
      .prepare()
    // Either table is selected from as if it were one: their queries have no type in common.
    return { rows, window: others.some(Boolean) ? window : undefined } as unknown as Range<T['$inferSelect']>
  }

  /** What a list is asked for by equality: the first chooses the index, in the order of how narrow they are as a rule. */
  function equalities(asked: [AnySQLiteColumn, string | undefined][]): { chosen?: SQL; others: SQL[] } {
    const given = asked.flatMap(([column, value]) => (value === undefined ? [] : [{ column, value }]))
    const [first, ...rest] = given
    return {
      ...(first && { chosen: eq(first.column, first.value) }),
      others: rest.map(({ column, value }) => eq(plain(column), value)),
    }
  }

  /** One bound for each side, because an index serves only one. */
  const boundsOf = ({ since, until, before = NEWEST }: Filter): { before: string; oldest: string } => ({
    before: until === undefined || firstIdAt(until) > before ? before : firstIdAt(until),
    oldest: since === undefined ? OLDEST : firstIdAt(since),
  })

  const nextConnection = db
    .select({ connection: audit.connection })
    .from(audit)
    .where(gt(audit.connection, place('after')))
    .orderBy(audit.connection)
    .limit(1)
    .prepare()
  /** Each is found by one step in the index by connection. */
  function connections(): string[] {
    const found: string[] = []
    for (;;) {
      const next = nextConnection.get({ after: found.at(-1) ?? '' })
      if (!next) return found
      found.push(next.connection)
    }
  }

  /** Written out as the index has it, which holds only them. */
  const isUncommon = sql`${audit.type} NOT IN ('intent', 'outcome')`

  function eventsBy(filter: EventFilter): Iterator<typeof audit.$inferSelect | Stop, undefined> {
    const bounds = boundsOf(filter)
    const { change, resource: id, actor, outcome, type, connections: names } = filter
    const { chosen, others } = equalities([
      [audit.changeId, change],
      [audit.resource, id],
      [audit.actor, actor],
    ])
    const within = names && among(plain(audit.connection), names)
    const typed = type && eq(plain(audit.type), type)
    const ended = outcome && eq(plain(audit.outcome), outcome)
    if (chosen) return inParts(rangeOf(audit, chosen, [...others, typed, ended, within]), bounds)
    if (type && type !== 'intent' && type !== 'outcome')
      return inParts(rangeOf(audit, and(isUncommon, eq(audit.type, type)), [ended, within]), bounds)
    if (outcome) return inParts(rangeOf(audit, eq(audit.outcome, outcome), [typed, within]), bounds)
    if (!names) return inParts(rangeOf(audit, undefined, [typed]), bounds)
    const ofOne = rangeOf(audit, eq(audit.connection, place('connection')), [typed])
    return newestFirst(names.map((connection) => inParts(ofOne, { ...bounds, connection })))
  }

  function changesBy(filter: ChangeFilter): Iterator<ChangeRecord | Stop, undefined> {
    const bounds = boundsOf(filter)
    const { change, resource: id, actor, connections: names, states } = filter
    const { chosen, others } = equalities([
      [changes.id, change],
      [changes.resource, id],
      [changes.actor, actor],
    ])
    if (chosen || (!names && !states)) {
      const within = names && among(plain(changes.connection), names)
      const standing = states && inArray(plain(changes.state), [...states])
      return inParts(rangeOf(changes, chosen, [...others, within, standing]), bounds)
    }
    // The index by state has every connection's changes of one state in the order of their ids.
    const ofBoth = and(eq(changes.connection, place('connection')), eq(changes.state, place('state')))
    const ofOne = rangeOf(changes, ofBoth, [])
    return newestFirst(
      (names ?? connections()).flatMap((connection) =>
        (states ?? changeStates).map((state) => inParts(ofOne, { ...bounds, connection, state })),
      ),
    )
  }

  /** Events from before ids became plain text have them encoded. */
  function eventsOfBothSpellings(filter: EventFilter): Iterator<typeof audit.$inferSelect | Stop, undefined> {
    const { resource } = filter
    const encoded = resource === undefined ? resource : encodedSpelling(resource)
    if (encoded === undefined || encoded === resource) return eventsBy(filter)
    return newestFirst([eventsBy(filter), eventsBy({ ...filter, resource: encoded })])
  }

  return {
    events(filter) {
      let size = 0
      const { rows, end } = sliceOf(eventsOfBothSpellings(filter), (taken) => {
        const last = taken.at(-1)
        if (last) size += last.fields.length + (last.upstream?.length ?? 0)
        return taken.length === filter.limit || size >= SLICE_SIZE
      })
      return { rows: rows.map(toEvent), end }
    },

    changes: (filter) => sliceOf(changesBy(filter), (taken) => taken.length === filter.limit),

    connections,
  }
}
