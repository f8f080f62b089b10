import { isNotNull, sql } from 'drizzle-orm'
import { blob, index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core'
import { changeStates, eventTypes, kinds, outcomes } from '../model/enums.ts'

/**
 * The audit: append-only and chained per connection (triggers in the migrations refuse everything else). Every column
 * but `position`, `hash` and `previous` is part of the hash, so a changed value is noticed wherever it stands.
 *
 * An index is most of what a row costs, and its length too. So none holds ids: each goes on in the order of the positions,
 * which SQLite adds to it, and a position follows from the time in an id.
 */
export const audit = sqliteTable(
  'audit',
  {
    /** Ascends as the ids do, over all connections: 1024 for each millisecond since 1970. */
    position: integer().primaryKey(),
    connection: text().notNull(),
    /** Place in the connection's chain, from 1, without gaps. */
    seq: integer().notNull(),
    /** UUIDv7: ids of all connections sort by time. */
    id: text().notNull(),
    /** RFC 3339, UTC, milliseconds. */
    at: text().notNull(),
    type: text({ enum: eventTypes }).notNull(),
    changeId: text('change_id'),
    /** The caller's name, or null where the gateway itself acts. */
    actor: text(),
    actorKey: text('actor_key'),
    actorAddress: text('actor_address'),
    alias: text(),
    kind: text({ enum: kinds }),
    resource: text(),
    /** JSON: field name → action, from, to, or the fingerprint of a secret. */
    fields: text().notNull(),
    widens: integer({ mode: 'boolean' }).notNull(),
    reason: text(),
    requestId: text('request_id'),
    outcome: text({ enum: outcomes }),
    /** JSON: what was sent and what came back, without values. */
    upstream: text(),
    /** JSON: names of fields that the change says something of and does not alter. */
    unchanged: text(),
    /** JSON: which problem a caller ran into, and how often since the last such event. */
    refusal: text(),
    previous: text().notNull(),
    hash: text().notNull(),
  },
  (table) => [
    index('audit_by_connection').on(table.connection),
    index('audit_by_change').on(table.changeId),
    index('audit_by_resource').on(table.resource),
    index('audit_by_actor').on(table.actor),
    // Half of the events have none.
    index('audit_by_outcome').on(table.outcome).where(isNotNull(table.outcome)),
    // Few among many, and what operators look for.
    index('audit_by_uncommon_type')
      .on(table.type)
      .where(sql`${table.type} NOT IN ('intent', 'outcome')`),
  ],
)

/**
 * What is in force as far as the gateway knows, for providers that cannot be read: what the provider told last or, where it
 * told nothing, what was applied. And how often a secret was changed, for the ETag. Written in the transaction of the
 * outcome that it follows from.
 */
export const resources = sqliteTable(
  'resources',
  {
    kind: text({ enum: kinds }).notNull(),
    resource: text().notNull(),
    /** JSON: field name → value; no secrets. */
    applied: text().notNull(),
    /** JSON: field name → position of the event that began the change whose value it is. */
    setBy: text('set_by').notNull().default('{}'),
    secretChanges: integer('secret_changes').notNull().default(0),
  },
  (table) => [primaryKey({ columns: [table.kind, table.resource] })],
)

/**
 * Where every change stands: a projection of its events, written in their transactions, so that recovery and
 * `GET /changes` need not read the whole audit.
 */
export const changes = sqliteTable(
  'changes',
  {
    /** UUIDv7: sorts by the time of the intent. */
    id: text().primaryKey(),
    connection: text().notNull(),
    kind: text({ enum: kinds }).notNull(),
    resource: text().notNull(),
    actor: text(),
    state: text({ enum: changeStates }).notNull(),
    /** RFC 3339, UTC: when it came into this state. */
    since: text().notNull(),
  },
  (table) => [
    index('changes_by_state').on(table.connection, table.state, table.id),
    index('changes_by_resource').on(table.resource, table.id),
    index('changes_by_actor').on(table.actor, table.id),
  ],
)

/**
 * Keys that callers made their changes with (`Idempotency-Key`), reserved in the transaction of the intent. The
 * request is kept as an HMAC only: a plain digest of a body that holds a password would be a guessing oracle.
 */
export const idempotency = sqliteTable(
  'idempotency',
  {
    caller: text().notNull(),
    /** Whose token it was (`jwt:` and the subject); empty for API keys, which are all the caller's own. */
    subject: text().notNull().default(''),
    kind: text({ enum: kinds }).notNull(),
    resource: text().notNull(),
    key: text().notNull(),
    changeId: text('change_id').notNull(),
    fingerprint: text().notNull(),
    /** How often the key came with another request since `mismatchedSince`, epoch milliseconds. */
    mismatches: integer().notNull().default(0),
    mismatchedSince: integer('mismatched_since').notNull().default(0),
    /** JSON: the answer to replay; null until the change has an outcome. No secrets. */
    answer: text(),
    /** Epoch milliseconds; null while the change has no outcome. */
    expiresAt: integer('expires_at'),
  },
  (table) => [
    primaryKey({ columns: [table.caller, table.subject, table.kind, table.resource, table.key] }),
    index('idempotency_by_change').on(table.changeId),
    index('idempotency_by_expiry').on(table.expiresAt),
  ],
)

/** One row: raised by every process that opens the database, compared in every commit. Node only. */
export const epoch = sqliteTable('epoch', {
  one: integer().primaryKey(),
  epoch: integer().notNull(),
  /** Filled and emptied to find out whether the disk has room for more than what it holds. */
  room: blob(),
})

/** Which audit keys have written here: a check value per key id, so that an exchanged key does not pass unnoticed. */
export const auditKeys = sqliteTable('audit_keys', {
  id: integer().primaryKey(),
  check: text('check_value').notNull(),
  since: text()
    .notNull()
    .default(sql`(strftime('%Y-%m-%dT%H:%M:%fZ','now'))`),
})

/**
 * Attempts of known callers that were refused, folded: what has come since the last event about them. One row per
 * connection, caller and problem, so that no caller can fill the disk, however many tokens it has.
 */
export const refusals = sqliteTable(
  'refusals',
  {
    connection: text().notNull(),
    caller: text().notNull(),
    problem: text().notNull(),
    /** Epoch milliseconds of the last event. */
    since: integer().notNull(),
    count: integer().notNull(),
    /** JSON: the first attempt that was counted; null while there is none. */
    first: text(),
    /** JSON: ids of the API keys and subjects of the tokens that were counted, each once. */
    subjects: text().notNull().default('[]'),
  },
  (table) => [primaryKey({ columns: [table.connection, table.caller, table.problem] })],
)
