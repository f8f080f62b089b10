import {
  and,
  desc,
  eq,
  getTableColumns,
  gte,
  inArray,
  isNotNull,
  isNull,
  lt,
  max,
  ne,
  or,
  type SQL,
  sql,
} from 'drizzle-orm'
import type { BaseSQLiteDatabase } from 'drizzle-orm/sqlite-core'
import type { AuditKeys } from '../audit-keys.ts'
import type { JsonObject } from '../json.ts'
import type { Kind } from '../model.ts'
import { firstPosition, idAt, positionAfter } from '../new-id.ts'
import { type AuditEvent, GENESIS, hashOf, type Outcome, toEvent, toRow } from './event.ts'
import { type Lists, openLists } from './lists.ts'
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

/** What the gateway knows of a resource by itself. */
export interface ResourceRecord {
  applied: JsonObject
  secretChanges: number
}

export interface Ledger extends Lists {
  append(entry: Entry): Promise<AuditEvent>
  change(id: string): ChangeRecord | undefined
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

/**
 * One placeholder per column, named like it: the row's type is the insert's. Each stands in a fragment of its own, because
 * a bare one is bound through its column, which makes an append some 7 % slower. So values are the driver's.
 */
const placeholders = <T extends Record<string, unknown>>(columns: T) =>
  Object.fromEntries(Object.keys(columns).map((name) => [name, sql`${sql.placeholder(name)}`])) as {
    [K in keyof T]: SQL
  }

/** Opens the ledger on a migrated database. */
export function openLedger(db: Db, commit: Commit): Ledger {
  const { audit, changes, idempotency, resources } = schema
  const place = (name: string) => sql.placeholder(name)

  // Prepared once: building a query costs more than running it.
  // SQLite plans a query anew for each bound value that could change the plan, as one could that an order, a limit or a
  // maximum depends on. A cast hides it: this one runs in an eighth of the time.
  const ofConnection = eq(audit.connection, sql`cast(${place('connection')} as text)`)
  const last = { position: max(audit.position) }
  const tip = db
    .select({ seq: audit.seq, hash: audit.hash })
    .from(audit)
    .where(eq(audit.position, db.select(last).from(audit).where(ofConnection)))
    .prepare()
  const newest = db.select(last).from(audit).prepare()
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
    const before = tip.get({ connection })
    const now = Date.now()
    const position = positionAfter(newest.get()?.position ?? 0, now)
    const unhashed = {
      ...draft,
      id: idAt(position),
      connection,
      seq: (before?.seq ?? 0) + 1,
      // Of the clock, even where it was set back and the id goes on from what came before.
      at: new Date(now).toISOString(),
      previous: before?.hash ?? GENESIS,
    }
    const event: AuditEvent = { ...unhashed, hash: hashOf(unhashed) }
    insertEvent.run({ ...toRow(event, position), widens: Number(event.widens) })
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

  /** The ends of writes that may have left: an attempt tells of the one before it, an outcome of the last. */
  const mayHaveLeft = or(
    and(eq(audit.type, 'outcome'), ne(audit.outcome, 'not_sent'), isNotNull(audit.upstream)),
    and(eq(audit.type, 'attempt'), sql`json_extract(${audit.upstream}, '$.shown') <> 'not_sent'`),
  )

  return {
    ...openLists(db),
    append: (entry) => commit(() => write(entry)),
    refuse: (connection, attempt) => commit(() => refusals.add(connection, attempt, Date.now())),
    async flushRefusals() {
      const now = Date.now()
      const next = refusals.next(now)
      return next === undefined || next > now ? next : commit(() => refusals.flush(now))
    },

    change: (id) => changeRow.get({ id }),

    story: (changeId) =>
      db.select().from(audit).where(eq(audit.changeId, changeId)).orderBy(audit.position).all().map(toEvent),

    resource,

    writesSince: (connection, since, most) =>
      db
        .select({ at: audit.at })
        .from(audit)
        .where(
          and(
            eq(audit.connection, connection),
            // Positions are at their time or, where the clock was set back, later.
            gte(audit.position, firstPosition(since)),
            gte(audit.at, new Date(since).toISOString()),
            mayHaveLeft,
          ),
        )
        .orderBy(desc(audit.position))
        .limit(most)
        .all()
        .map(({ at }) => Date.parse(at)),

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
