import {
  and,
  desc,
  eq,
  getTableColumns,
  gt,
  gte,
  inArray,
  isNotNull,
  isNull,
  lt,
  ne,
  or,
  type SQL,
  sql,
} from 'drizzle-orm'
import type { AnySQLiteColumn, BaseSQLiteDatabase } from 'drizzle-orm/sqlite-core'
import type { AuditKeys } from '../audit-keys.ts'
import type { JsonObject } from '../json.ts'
import type { Kind } from '../model.ts'
import { newId } from '../new-id.ts'
import { type AuditEvent, type EventType, GENESIS, hashOf, type Outcome, toEvent, toRow } from './event.ts'
import { foldRefusals, type RefusedAttempt } from './refusals.ts'
import * as schema from './schema.ts'

/** Both SQLite drivers, better-sqlite3 and a Durable Object's own storage, are synchronous and fit this type. */
export type Db = BaseSQLiteDatabase<'sync', unknown, typeof schema>

/** Runs `write` in one transaction and resolves once it is durable, or rejects with nothing written. */
export type Commit = <T>(write: () => T) => Promise<T>

/** An event before it has its place in a chain. */
export type EventDraft = Omit<AuditEvent, 'id' | 'connection' | 'seq' | 'at' | 'previous' | 'hash'>

/** What is written together with an event, in its transaction. Plain data, so that an emergency can keep it. */
export interface Entry {
  connection: string
  draft: EventDraft
  /** Values that are now in force, and whether a secret was changed. */
  applied?: { values: JsonObject; secretChanged: boolean }
  /** Takes the key for the change; it must be free. */
  reserve?: Reservation
  /** What becomes of the change's key: the answer to replay, or its release. */
  answer?: object | 'release'
}

/** The scope of an idempotency key: one caller, one resource. */
export interface KeyScope {
  caller: string
  kind: Kind
  resource: string
  key: string
}
export interface Reservation extends KeyScope {
  fingerprint: string
}
export interface ReservedKey {
  changeId: string
  fingerprint: string
  /** As it was given; null until the change has one. */
  answer: unknown
}

export type ChangeState = 'in_flight' | Outcome
export type ChangeRecord = typeof schema.changes.$inferSelect

interface Filter {
  /** RFC 3339; from, inclusive. */
  since?: string
  /** Up to, exclusive. */
  until?: string
  actor?: string
  resource?: string
  connections?: readonly string[]
  /** Only what is older than this id. */
  before?: string
  limit: number
}
export interface EventFilter extends Filter {
  type?: EventType
  outcome?: Outcome
  change?: string
}
export interface ChangeFilter extends Filter {
  states?: readonly ChangeState[]
  change?: string
}

/** Part of a list. */
export interface Slice<T> {
  rows: T[]
  /** The id down to which all that matches is in the rows; null where that is all there is. */
  end: string | null
}

/** What the gateway knows of a resource by itself. */
export interface ResourceRecord {
  applied: JsonObject
  secretChanges: number
}

export interface Ledger {
  append(entry: Entry): Promise<AuditEvent>
  /** Newest first. It may end before the limit, even without a row, so that no list is the work of one long moment. */
  events(filter: EventFilter): Slice<AuditEvent>
  change(id: string): ChangeRecord | undefined
  /** Newest first, and as bounded. */
  changes(filter: ChangeFilter): Slice<ChangeRecord>
  /** All that have events. */
  connections(): string[]
  /** The events of one change in the order of their chain. */
  story(changeId: string): AuditEvent[]
  resource(kind: Kind, resource: string): ResourceRecord
  reservedKey(scope: KeyScope): ReservedKey | undefined
  /** When the connection's newest writes that may have left had ended, in epoch milliseconds; `most` of them. */
  writesSince(connection: string, since: number, most: number): number[]
  /** Counts the attempt, or tells of it in an event. */
  refuse(connection: string, attempt: RefusedAttempt): Promise<void>
  /** Tells of what was counted; resolves to when it should be called again, in epoch milliseconds. */
  flushRefusals(): Promise<number | undefined>
  /** Throws when the store cannot be read. */
  probe(): void
}

/**
 * Changes that are not known to be in force, nor known not to be: a newer one takes their place. One that is in flight
 * while another of its resource begins was left behind by a crash, for a resource has one writer.
 */
const UNSETTLED = ['in_flight', 'unknown', 'needs_attention', 'partial'] as const satisfies ChangeState[]

/** States that nothing follows any more. */
const FINAL: ReadonlySet<ChangeState> = new Set(['applied', 'rejected', 'superseded'])

/** How long the answer to a key is kept after the outcome: 24 hours, in milliseconds. */
const KEY_LIFETIME = 24 * 60 * 60 * 1000
/** Expired keys that one append clears away at the most, so that no append is slow. */
const KEYS_CLEARED = 20

const STATES = schema.changes.state.enumValues

/** Characters after which a slice of events ends: it has to fit into one RPC (32 MiB). */
const SLICE_SIZE = 4 * 1024 * 1024
/** Rows read at a time: few at first, because events may be large and a page may need no more. */
const PART = { first: 16, most: 64 }
/**
 * Entries of an index that are gone through at a time for those that match everything else too, and in one slice. While
 * that is done nobody is served.
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
  /** Of everything in the range before `before` the id of the `WINDOW`th; absent where everything in it matches. */
  window: { get(values: Record<string, unknown>): { id: string } | undefined } | undefined
}

/** Stands where a list was left: everything after `id` has been looked at. */
interface Stop {
  id: string
  stopped: true
}

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
    const end = window?.get({ ...values, before })?.id ?? OLDEST
    const from = end > oldest ? end : oldest
    for (;;) {
      const found = rows.all({ ...values, before, from, limit })
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

/** One placeholder per column, named like it: the row's type is the insert's. */
const placeholders = <T extends Record<string, unknown>>(columns: T) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, sql.placeholder(name)])) as {
    [K in keyof T]: ReturnType<typeof sql.placeholder>
  }

/** The time in a UUIDv7's first 48 bits (RFC 9562 §5.7), in epoch milliseconds. */
const timeOf = (id: string): number => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)

/** The smallest id of a point in time, so that a time filter is a range of the id's index. */
const firstIdAt = (instant: string): string => {
  const hex = Date.parse(instant).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8)}`
}

/** Opens the ledger on a migrated database. */
export function openLedger(db: Db, commit: Commit): Ledger {
  const { audit, changes, idempotency, resources } = schema
  const place = (name: string) => sql.placeholder(name)

  // Prepared once: building a query costs more than running it.
  const tip = db
    .select({ seq: audit.seq, hash: audit.hash })
    .from(audit)
    .where(eq(audit.connection, place('connection')))
    .orderBy(desc(audit.seq))
    .limit(1)
    .prepare()
  const insertEvent = db
    .insert(audit)
    .values(placeholders(getTableColumns(audit)))
    .prepare()
  const insertChange = db
    .insert(changes)
    .values(placeholders(getTableColumns(changes)))
    .prepare()
  const unsettled = db
    .select({ id: changes.id })
    .from(changes)
    .where(
      and(
        eq(changes.connection, place('connection')),
        inArray(changes.state, UNSETTLED),
        // The plus keeps SQLite from the index by resource, where every settled change would be read.
        eq(sql`+${changes.resource}`, place('resource')),
        eq(changes.kind, place('kind')),
      ),
    )
    .prepare()
  const changeRow = db
    .select()
    .from(changes)
    .where(eq(changes.id, place('id')))
    .prepare()
  const resourceRow = db
    .select()
    .from(resources)
    .where(and(eq(resources.kind, place('kind')), eq(resources.resource, place('resource'))))
    .prepare()
  const keyRow = db
    .select()
    .from(idempotency)
    .where(
      and(
        eq(idempotency.caller, place('caller')),
        eq(idempotency.kind, place('kind')),
        eq(idempotency.resource, place('resource')),
        eq(idempotency.key, place('key')),
      ),
    )
    .prepare()

  const moveChange = db
    .update(changes)
    .set({ state: sql`${place('state')}`, since: sql`${place('since')}` })
    .where(eq(changes.id, place('id')))
    .prepare()
  const insertResource = db
    .insert(resources)
    .values(placeholders(getTableColumns(resources)))
    .onConflictDoUpdate({
      target: [resources.kind, resources.resource],
      set: { applied: sql`excluded.applied`, secretChanges: sql`excluded.secret_changes` },
    })
    .prepare()
  const expireKey = db
    .update(idempotency)
    .set({ expiresAt: sql`${place('expiresAt')}` })
    .where(and(eq(idempotency.changeId, place('changeId')), isNull(idempotency.expiresAt)))
    .prepare()
  const expiredKeys = db
    .select({ changeId: idempotency.changeId })
    .from(idempotency)
    .where(and(isNotNull(idempotency.expiresAt), lt(idempotency.expiresAt, place('now'))))
    .limit(KEYS_CLEARED)
    .prepare()
  // What may stand under the key has expired: a key in use was found before.
  const insertKey = db
    .insert(idempotency)
    .values(placeholders(getTableColumns(idempotency)))
    .onConflictDoUpdate({
      target: [idempotency.caller, idempotency.kind, idempotency.resource, idempotency.key],
      set: {
        changeId: sql`excluded.change_id`,
        fingerprint: sql`excluded.fingerprint`,
        answer: sql`excluded.answer`,
        expiresAt: sql`excluded.expires_at`,
      },
    })
    .prepare()
  const answerKey = db
    .update(idempotency)
    .set({ answer: sql`${place('answer')}` })
    .where(eq(idempotency.changeId, place('changeId')))
    .prepare()
  const deleteKey = db
    .delete(idempotency)
    .where(eq(idempotency.changeId, place('changeId')))
    .prepare()
  function resource(kind: Kind, id: string): ResourceRecord {
    const row = resourceRow.get({ kind, resource: id })
    return row
      ? { applied: JSON.parse(row.applied) as JsonObject, secretChanges: row.secretChanges }
      : { applied: {}, secretChanges: 0 }
  }

  function insert(connection: string, draft: EventDraft): AuditEvent {
    const last = tip.get({ connection })
    const id = newId()
    const unhashed = {
      ...draft,
      id,
      connection,
      seq: (last?.seq ?? 0) + 1,
      at: new Date(timeOf(id)).toISOString(),
      previous: last?.hash ?? GENESIS,
    }
    const event: AuditEvent = { ...unhashed, hash: hashOf(unhashed) }
    insertEvent.run(toRow(event))
    return event
  }

  const refusals = foldRefusals(db, insert)

  /** The change's key is kept from now on for its lifetime. */
  function expire(changeId: string): void {
    expireKey.run({ changeId, expiresAt: Date.now() + KEY_LIFETIME })
  }

  /** The change's state after the event. A change that begins takes the place of unsettled older ones. */
  function project(event: AuditEvent): void {
    const { changeId, kind, resource: id, connection, at } = event
    if (changeId === null || kind === null || id === null) return
    const state = event.outcome ?? 'in_flight'
    const begins = event.type === 'intent' || (event.type === 'outcome' && event.upstream === null)
    if (!begins) {
      moveChange.run({ id: changeId, state, since: at })
      if (FINAL.has(state)) expire(changeId)
      return
    }
    for (const older of unsettled.all({ connection, resource: id, kind })) {
      const by = {
        ...event,
        changeId: older.id,
        fields: {},
        widens: false,
        upstream: { supersededBy: changeId },
      }
      const superseded = insert(connection, { ...by, type: 'settled', outcome: 'superseded' })
      expire(older.id)
      moveChange.run({ id: older.id, state: 'superseded', since: superseded.at })
    }
    insertChange.run({
      id: changeId,
      connection,
      kind,
      resource: id,
      actor: event.actor?.caller ?? null,
      state,
      since: at,
    })
  }

  function apply(
    { kind, resource: id }: EventDraft,
    { values, secretChanged }: NonNullable<Entry['applied']>,
  ): void {
    if (kind === null || id === null) return
    const before = resource(kind, id)
    insertResource.run({
      kind,
      resource: id,
      applied: JSON.stringify({ ...before.applied, ...values }),
      secretChanges: before.secretChanges + (secretChanged ? 1 : 0),
    })
  }

  function reserve({ fingerprint, ...scope }: Reservation, changeId: string): void {
    for (const expired of expiredKeys.all({ now: Date.now() })) deleteKey.run({ changeId: expired.changeId })
    insertKey.run({ ...scope, fingerprint, changeId, answer: null, expiresAt: null })
  }

  function answer(changeId: string, value: object | 'release'): void {
    if (value === 'release') {
      deleteKey.run({ changeId })
      return
    }
    answerKey.run({ changeId, answer: JSON.stringify(value) })
    expire(changeId)
  }

  function write(entry: Entry): AuditEvent {
    const { draft } = entry
    const event = insert(entry.connection, draft)
    project(event)
    if (entry.applied) apply(draft, entry.applied)
    if (entry.reserve && draft.changeId) reserve(entry.reserve, draft.changeId)
    if (entry.answer !== undefined && draft.changeId) answer(draft.changeId, entry.answer)
    return event
  }

  /** Many names are bound as one value: a Durable Object binds at most 100. Few are left to the planner. */
  const among = (connection: SQL, names: readonly string[]): SQL =>
    names.length > 50
      ? sql`${connection} IN (SELECT value FROM json_each(${JSON.stringify(names)}))`
      : inArray(connection, [...names])

  /** Keeps SQLite from the indexes of a column, by the plus. */
  const plain = (column: AnySQLiteColumn): SQL => sql`+${column}`

  /**
   * Prepares the list of what fits `chosen`, which has an index that goes on in the order of the ids, so that nothing is
   * sorted, and `others` too.
   */
  function rangeOf<T extends typeof audit | typeof changes>(
    table: T,
    chosen: SQL | undefined,
    others: (SQL | undefined)[],
  ): Range<T['$inferSelect']> {
    const { id } = table as typeof audit
    const before = lt(id, place('before'))
    const rows = db
      .select()
      .from(table as typeof audit)
      .where(and(chosen, before, gte(id, place('from')), ...others))
      .orderBy(desc(id))
      .limit(place('limit'))
      .prepare()
    const window = db
      .select({ id })
      .from(table as typeof audit)
      .where(and(chosen, before))
      .orderBy(desc(id))
      .limit(1)
      .offset(WINDOW - 1)
      .prepare()
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
  /** Each is found by one step in the index of the chains. */
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
        (states ?? STATES).map((state) => inParts(ofOne, { ...bounds, connection, state })),
      ),
    )
  }

  /** The ends of writes that may have left: an attempt tells of the one before it, an outcome of the last. */
  const mayHaveLeft = or(
    and(eq(audit.type, 'outcome'), ne(audit.outcome, 'not_sent'), isNotNull(audit.upstream)),
    and(eq(audit.type, 'attempt'), sql`json_extract(${audit.upstream}, '$.shown') <> 'not_sent'`),
  )

  return {
    append: (entry) => commit(() => write(entry)),
    refuse: (connection, attempt) => commit(() => refusals.add(connection, attempt, Date.now())),
    async flushRefusals() {
      const now = Date.now()
      const next = refusals.next(now)
      return next === undefined || next > now ? next : commit(() => refusals.flush(now))
    },

    events(filter) {
      let size = 0
      const { rows, end } = sliceOf(eventsBy(filter), (taken) => {
        const last = taken.at(-1)
        if (last) size += last.fields.length + (last.upstream?.length ?? 0)
        return taken.length === filter.limit || size >= SLICE_SIZE
      })
      return { rows: rows.map(toEvent), end }
    },

    change: (id) => changeRow.get({ id }),

    changes: (filter) => sliceOf(changesBy(filter), (taken) => taken.length === filter.limit),

    connections,

    story: (changeId) =>
      db.select().from(audit).where(eq(audit.changeId, changeId)).orderBy(audit.seq).all().map(toEvent),

    resource,

    writesSince: (connection, since, most) =>
      db
        .select({ id: audit.id })
        .from(audit)
        .where(
          and(
            eq(audit.connection, connection),
            gte(audit.id, firstIdAt(new Date(since).toISOString())),
            mayHaveLeft,
          ),
        )
        .orderBy(desc(audit.id))
        .limit(most)
        .all()
        .map(({ id }) => timeOf(id)),

    reservedKey(scope) {
      const row = keyRow.get({ ...scope })
      if (!row || (row.expiresAt !== null && row.expiresAt <= Date.now())) return undefined
      const { changeId, fingerprint } = row
      return {
        changeId,
        fingerprint,
        answer: row.answer === null ? null : (JSON.parse(row.answer) as unknown),
      }
    },

    probe() {
      db.select({ one: sql<number>`1` })
        .from(schema.auditKeys)
        .limit(1)
        .all()
    },
  }
}

/** Remembers the key's check value; false when another key has written here under the same id. */
export function registerAuditKey(db: Db, keys: AuditKeys): boolean {
  db.insert(schema.auditKeys).values({ id: keys.id, check: keys.check }).onConflictDoNothing().run()
  const row = db.select().from(schema.auditKeys).where(eq(schema.auditKeys.id, keys.id)).get()
  return row?.check === keys.check
}
