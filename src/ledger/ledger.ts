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
  max,
  ne,
  or,
  type SQL,
  sql,
} from 'drizzle-orm'
import type { JsonObject } from '../lib/json.ts'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import { clockFault } from '../lib/wall-clock.ts'
import { type ChangeState, type Kind, openStates } from '../model/enums.ts'
import type { EndOf } from '../model/one-resource.ts'
import { encodedSpelling } from '../model/resource-id.ts'
import { type AuditEvent, GENESIS, hashOf, toEvent, toRow } from './event.ts'
import { openLists } from './lists.ts'
import { firstPosition, idAt, positionAfter } from './position.ts'
import { foldRefusals } from './refusals.ts'
import * as schema from './schema.ts'
import type { Commit, Db, Entry, EventDraft, Ledger, Reservation, ResourceRecord } from './types.ts'

/** What a change was to alter, and all that stood in its request, by the event that began it. */
interface Beginning {
  position: number
  altered: string[]
  written: ReadonlySet<string>
}

/** States that nothing follows any more. */
const FINAL: ReadonlySet<ChangeState> = new Set(['applied', 'rejected', 'superseded'])

/** How long the answer to a key is kept after the outcome: 24 hours, in milliseconds. */
const KEY_LIFETIME = 24 * 60 * 60 * 1000
/** How often a key may come with another request in this time (milliseconds), for each of them is a guess at the first. */
const MISMATCHES = 5
const MISMATCH_WINDOW = 60 * 60 * 1000
/** A time that is ahead was written by a clock that was set back, and counts as over. */
const isWithin = (since: number, ms: number, now: number): boolean => now >= since && now < since + ms
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
export function openLedger(
  db: Db,
  commit: Commit,
  /** See `EndOf`; without it every id is a resource. */
  endOf: EndOf = (_connection, _kind, id) => id,
): Ledger {
  const { audit, changes, idempotency, resources } = schema
  const place = (name: string) => sql.placeholder(name)

  /** No index is of use, and none is wanted: by resource every settled change would be read. */
  const endsWith = (column: typeof changes.resource | typeof audit.resource, name: string): SQL =>
    sql`substr(${column}, -length(${place(name)})) = ${place(name)}`

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
  const openChanges = db
    .select({ id: changes.id, resource: changes.resource })
    .from(changes)
    .where(
      and(
        eq(changes.connection, place('connection')),
        inArray(changes.state, openStates),
        endsWith(changes.resource, 'end'),
        eq(changes.kind, place('kind')),
      ),
    )
    .prepare()
  const firstEvent = db
    .select({ position: audit.position, fields: audit.fields, unchanged: audit.unchanged })
    .from(audit)
    .where(eq(audit.changeId, place('changeId')))
    .orderBy(audit.position)
    .limit(1)
    .prepare()
  /** Whether the JSON has any of the names: as the name of a member, or as an element. */
  const hasAny = (json: SQL | typeof audit.fields, as: SQL) =>
    sql`EXISTS (SELECT 1 FROM json_each(${json}) AS own WHERE ${as} IN (SELECT value FROM json_each(${place('names')})))`
  const overtakingWhere = (ofResource: SQL | undefined) =>
    db
      .select({ id: changes.id })
      .from(audit)
      .innerJoin(changes, eq(changes.id, audit.changeId))
      .where(
        and(
          ofResource,
          eq(audit.kind, place('kind')),
          gt(audit.position, place('position')),
          // What begins a change: an intent, or the outcome of one that had nothing to write.
          or(eq(audit.type, 'intent'), and(eq(audit.type, 'outcome'), isNull(audit.upstream))),
          // One that a person called rejected may have been found partly in force before.
          or(
            inArray(changes.state, ['applied', ...openStates]),
            sql`EXISTS (SELECT 1 FROM ${audit} AS found WHERE found.change_id = ${changes.id} AND found.outcome = 'partial')`,
          ),
          or(
            hasAny(audit.fields, sql`own.key`),
            hasAny(sql`${audit.unchanged} ->> '$.kept'`, sql`own.value`),
            hasAny(sql`${audit.unchanged} ->> '$.carried'`, sql`own.value`),
          ),
        ),
      )
      .limit(1)
      .prepare()
  // Events from before ids became plain text have them encoded.
  const overtaking = overtakingWhere(inArray(audit.resource, [place('end'), place('encoded')]))
  const overtakingByEnd = overtakingWhere(
    and(
      eq(audit.connection, place('connection')),
      or(endsWith(audit.resource, 'end'), endsWith(audit.resource, 'encoded')),
    ),
  )
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
        eq(idempotency.subject, place('subject')),
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
      set: {
        applied: sql`excluded.applied`,
        setBy: sql`excluded.set_by`,
        secretChanges: sql`excluded.secret_changes`,
      },
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
      target: [
        idempotency.caller,
        idempotency.subject,
        idempotency.kind,
        idempotency.resource,
        idempotency.key,
      ],
      set: {
        changeId: sql`excluded.change_id`,
        fingerprint: sql`excluded.fingerprint`,
        mismatches: sql`excluded.mismatches`,
        mismatchedSince: sql`excluded.mismatched_since`,
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
  const setMismatches = db
    .update(idempotency)
    .set({ mismatches: sql`${place('mismatches')}`, mismatchedSince: sql`${place('mismatchedSince')}` })
    .where(eq(idempotency.changeId, place('changeId')))
    .prepare()
  const deleteKey = db
    .delete(idempotency)
    .where(eq(idempotency.changeId, place('changeId')))
    .prepare()
  type Row = ResourceRecord & { setBy: Record<string, number> }
  function rowOf(kind: Kind, key: string): Row {
    const row = resourceRow.get({ kind, resource: key })
    return row
      ? {
          applied: JSON.parse(row.applied) as JsonObject,
          setBy: JSON.parse(row.setBy) as Record<string, number>,
          secretChanges: row.secretChanges,
        }
      : { applied: {}, setBy: {}, secretChanges: 0 }
  }

  /** Under which a resource is kept that has several ids: no id has a slash. */
  function keyOf(kind: Kind, id: string): string {
    const [connection = ''] = id.split(':')
    const end = endOf(connection, kind, id)
    return end === id ? id : `${connection}/${end}`
  }

  function resource(kind: Kind, id: string): ResourceRecord {
    const key = keyOf(kind, id)
    const { applied, secretChanges } = rowOf(kind, key)
    if (key === id) return { applied, secretChanges }
    // What was kept under the id, before its resource was known to have others.
    const earlier = rowOf(kind, id)
    return {
      applied: { ...earlier.applied, ...applied },
      secretChanges: earlier.secretChanges + secretChanges,
    }
  }

  function beginningOf(changeId: string): Beginning | undefined {
    const event = firstEvent.get({ changeId })
    if (!event) return undefined
    const { carried = [] } = JSON.parse(event.unchanged ?? '{}') as NonNullable<AuditEvent['unchanged']>
    const altered = Object.keys(JSON.parse(event.fields) as object)
    return { position: event.position, altered, written: new Set([...altered, ...carried]) }
  }

  function insert(connection: string, draft: EventDraft): AuditEvent {
    const before = tip.get({ connection })
    const now = Date.now()
    const wrong = clockFault(now)
    if (wrong !== undefined) throw new Error(wrong)
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

  /** The change's state after the event. */
  function project(event: AuditEvent): void {
    const { changeId, kind, resource: id, connection, at } = event
    if (changeId === null || kind === null || id === null) return
    const state = event.outcome ?? 'in_flight'
    const isNoOp = event.type === 'outcome' && event.upstream === null
    if (event.type === 'intent' || isNoOp) {
      insertChange.run({
        id: changeId,
        connection,
        kind,
        resource: id,
        actor: event.actor?.caller ?? null,
        state,
        since: at,
      })
      return
    }
    moveChange.run({ id: changeId, state, since: at })
    if (FINAL.has(state)) expire(changeId)
    if (state === 'applied') supersede({ changeId, kind, id, event })
  }

  /** An applied change takes the place of open ones that began before it, where it wrote every field of theirs. */
  function supersede(by: { changeId: string; kind: Kind; id: string; event: AuditEvent }): void {
    const { changeId, kind, id, event } = by
    const { unchanged: _, ...common } = event
    const end = endOf(event.connection, kind, id)
    const others = openChanges.all({ connection: event.connection, end, kind })
    if (others.length === 0) return
    const own = beginningOf(changeId)
    if (!own) return
    // What this run has sent; a person speaks of the first one; what a read proves, it proves of what was to be altered.
    const carried = event.unchanged?.carried ?? []
    const sent = event.type === 'outcome' ? [...Object.keys(event.fields), ...carried] : own.altered
    const written = event.type === 'resolved' ? own.written : new Set(sent)
    for (const other of others) {
      const older = beginningOf(other.id)
      if (!older || older.position >= own.position) continue
      if (!older.altered.every((name) => written.has(name))) continue
      const superseded = insert(event.connection, {
        ...common,
        type: 'settled',
        changeId: other.id,
        resource: other.resource,
        fields: {},
        widens: false,
        outcome: 'superseded',
        upstream: { supersededBy: changeId },
      })
      expire(other.id)
      moveChange.run({ id: other.id, state: 'superseded', since: superseded.at })
    }
  }

  function apply(
    { type, kind, resource: id, changeId }: EventDraft,
    { values, secretChanged, secretKept }: NonNullable<Entry['applied']>,
  ): void {
    if (kind === null || id === null || changeId === null) return
    if (Object.keys(values).length === 0 && !secretChanged && !secretKept) return
    const key = keyOf(kind, id)
    const before = rowOf(kind, key)
    const position = firstEvent.get({ changeId })?.position ?? 0
    const isNews = (name: string) => type === 'outcome' || (before.setBy[name] ?? 0) <= position
    const newer = Object.entries(values).filter(([name]) => isNews(name))
    const setBy = Object.fromEntries(newer.map(([name]) => [name, position]))
    insertResource.run({
      kind,
      resource: key,
      applied: JSON.stringify({ ...before.applied, ...Object.fromEntries(newer) }),
      setBy: JSON.stringify({ ...before.setBy, ...setBy }),
      secretChanges: before.secretChanges + (secretChanged ? 1 : 0) - (secretKept ? 1 : 0),
    })
  }

  function reserve({ fingerprint, ...scope }: Reservation, changeId: string): void {
    for (const expired of expiredKeys.all({ now: Date.now() })) deleteKey.run({ changeId: expired.changeId })
    const unused = { mismatches: 0, mismatchedSince: 0, answer: null, expiresAt: null }
    insertKey.run({ ...scope, fingerprint, changeId, ...unused })
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

    open: (connection, kind, id) =>
      openChanges.all({ connection, kind, end: endOf(connection, kind, id) }).map((change) => change.id),

    isOvertaken(changeId) {
      const own = beginningOf(changeId)
      const row = changeRow.get({ id: changeId })
      if (!own || !row) return false
      const { kind, connection, resource: id } = row
      const end = endOf(connection, kind, id)
      const place = { kind, position: own.position, names: JSON.stringify(own.altered) }
      const found =
        end === id
          ? overtaking.get({ ...place, end, encoded: encodedSpelling(id) })
          : overtakingByEnd.get({ ...place, connection, end, encoded: encodedSpelling(end) })
      return found !== undefined
    },

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
      const { changeId, fingerprint, mismatches, mismatchedSince } = row
      const isBlocked = mismatches >= MISMATCHES && isWithin(mismatchedSince, MISMATCH_WINDOW, Date.now())
      return {
        changeId,
        fingerprint,
        ...(isBlocked && { blockedUntil: mismatchedSince + MISMATCH_WINDOW }),
        answer: row.answer === null ? null : (JSON.parse(row.answer) as unknown),
      }
    },

    countMismatch: (scope) =>
      commit(() => {
        const row = keyRow.get({ ...scope })
        if (!row) return
        const now = Date.now()
        const isOpen = isWithin(row.mismatchedSince, MISMATCH_WINDOW, now)
        setMismatches.run({
          changeId: row.changeId,
          mismatches: isOpen ? row.mismatches + 1 : 1,
          mismatchedSince: isOpen ? row.mismatchedSince : now,
        })
      }),

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
