import { and, desc, eq, getTableColumns, gte, inArray, lt, type SQL, sql } from 'drizzle-orm'
import type { BaseSQLiteDatabase } from 'drizzle-orm/sqlite-core'
import { v7 as uuidv7 } from 'uuid'
import type { AuditKeys } from '../audit-keys.ts'
import type { JsonObject } from '../json.ts'
import type { Kind } from '../model.ts'
import { type AuditEvent, GENESIS, hashOf, type Outcome, toEvent, toRow } from './event.ts'
import * as schema from './schema.ts'

/** Both SQLite drivers, better-sqlite3 and a Durable Object's own storage, are synchronous and fit this type. */
export type Db = BaseSQLiteDatabase<'sync', unknown, typeof schema>

/** Runs `write` in one transaction and resolves once it is durable, or rejects with nothing written. */
export type Commit = <T>(write: () => T) => Promise<T>

/** An event before it has its place in a chain. */
export type EventDraft = Omit<AuditEvent, 'id' | 'connection' | 'seq' | 'at' | 'previous' | 'hash'>

export interface EventFilter {
  /** RFC 3339; from, inclusive. */
  since?: string
  /** Up to, exclusive. */
  until?: string
  actor?: string
  resource?: string
  outcome?: Outcome
  change?: string
  /** At most 50 names, because a Durable Object binds at most 100 values. */
  connections?: readonly string[]
  /** Only events older than this id. */
  before?: string
  limit: number
}

/** What the gateway knows of a resource by itself. */
export interface ResourceRecord {
  applied: JsonObject
  secretChanges: number
}

/** The consequence of an outcome for the resource's record. */
export interface Applied {
  kind: Kind
  resource: string
  values: JsonObject
  secretChanged: boolean
}

export interface Ledger {
  append(connection: string, draft: EventDraft, applied?: Applied): Promise<AuditEvent>
  /** Newest first. */
  events(filter: EventFilter): AuditEvent[]
  resource(kind: Kind, resource: string): ResourceRecord
  /** Throws when the store cannot be read. */
  probe(): void
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
  const { audit, resources } = schema
  const place = (name: string) => sql.placeholder(name)

  // Prepared once: building a query costs more than running it.
  const tip = db
    .select({ seq: audit.seq, hash: audit.hash })
    .from(audit)
    .where(eq(audit.connection, place('connection')))
    .orderBy(desc(audit.seq))
    .limit(1)
    .prepare()
  const insert = db
    .insert(audit)
    .values(placeholders(getTableColumns(audit)))
    .prepare()
  const record = db
    .select()
    .from(resources)
    .where(and(eq(resources.kind, place('kind')), eq(resources.resource, place('resource'))))
    .prepare()

  function resource(kind: Kind, id: string): ResourceRecord {
    const row = record.get({ kind, resource: id })
    return row
      ? { applied: JSON.parse(row.applied) as JsonObject, secretChanges: row.secretChanges }
      : { applied: {}, secretChanges: 0 }
  }

  function write(connection: string, draft: EventDraft, applied: Applied | undefined): AuditEvent {
    const last = tip.get({ connection })
    const id = uuidv7()
    const unhashed = {
      ...draft,
      id,
      connection,
      seq: (last?.seq ?? 0) + 1,
      at: new Date(timeOf(id)).toISOString(),
      previous: last?.hash ?? GENESIS,
    }
    const event: AuditEvent = { ...unhashed, hash: hashOf(unhashed) }
    insert.run(toRow(event))
    if (applied) {
      const before = resource(applied.kind, applied.resource)
      const next = {
        applied: JSON.stringify({ ...before.applied, ...applied.values }),
        secretChanges: before.secretChanges + (applied.secretChanged ? 1 : 0),
      }
      db.insert(resources)
        .values({ kind: applied.kind, resource: applied.resource, ...next })
        .onConflictDoUpdate({ target: [resources.kind, resources.resource], set: next })
        .run()
    }
    return event
  }

  return {
    append: (connection, draft, applied) => commit(() => write(connection, draft, applied)),

    events(filter) {
      const where: (SQL | undefined)[] = [
        filter.since === undefined ? undefined : gte(audit.id, firstIdAt(filter.since)),
        filter.until === undefined ? undefined : lt(audit.id, firstIdAt(filter.until)),
        filter.actor === undefined ? undefined : eq(audit.actor, filter.actor),
        filter.resource === undefined ? undefined : eq(audit.resource, filter.resource),
        filter.outcome === undefined ? undefined : eq(audit.outcome, filter.outcome),
        filter.change === undefined ? undefined : eq(audit.changeId, filter.change),
        filter.connections === undefined ? undefined : inArray(audit.connection, [...filter.connections]),
        filter.before === undefined ? undefined : lt(audit.id, filter.before),
      ]
      return db
        .select()
        .from(audit)
        .where(and(...where))
        .orderBy(desc(audit.id))
        .limit(filter.limit)
        .all()
        .map(toEvent)
    },

    resource,

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
