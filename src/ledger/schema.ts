import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'

/**
 * The audit: append-only (triggers in the migrations forbid everything else) and chained per connection. Every column
 * but `hash` and `previous` is part of the hash, so a changed value is noticed wherever it stands.
 */
export const audit = sqliteTable(
  'audit',
  {
    connection: text().notNull(),
    /** Position in the connection's chain, from 1, without gaps. */
    seq: integer().notNull(),
    /** UUIDv7: ids of all connections sort by time. */
    id: text().notNull(),
    /** RFC 3339, UTC, milliseconds. */
    at: text().notNull(),
    type: text({ enum: ['intent', 'attempt', 'outcome', 'settled', 'resolved', 'refused'] }).notNull(),
    changeId: text('change_id'),
    /** The caller's name, or null where the gateway itself acts. */
    actor: text(),
    actorKey: text('actor_key'),
    actorAddress: text('actor_address'),
    alias: text(),
    kind: text({ enum: ['credential', 'role', 'permission'] }),
    resource: text(),
    /** JSON: field name → action, from, to, or the fingerprint of a secret. */
    fields: text().notNull(),
    widens: integer({ mode: 'boolean' }).notNull(),
    reason: text(),
    requestId: text('request_id'),
    outcome: text({
      enum: ['applied', 'rejected', 'partial', 'unknown', 'not_sent', 'superseded', 'needs_attention'],
    }),
    /** JSON: what was sent and what came back, without values. */
    upstream: text(),
    previous: text().notNull(),
    hash: text().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.connection, table.seq] }),
    uniqueIndex('audit_id').on(table.id),
    index('audit_by_connection').on(table.connection, table.id),
    index('audit_by_change').on(table.changeId, table.id),
    index('audit_by_resource').on(table.resource, table.id),
    index('audit_by_actor').on(table.actor, table.id),
    index('audit_by_outcome').on(table.outcome, table.id),
  ],
)

/**
 * What the gateway last applied, for providers that cannot be read, and how often it changed a secret, for the ETag.
 * Written in the transaction of the outcome that it follows from.
 */
export const resources = sqliteTable(
  'resources',
  {
    kind: text({ enum: ['credential', 'role', 'permission'] }).notNull(),
    resource: text().notNull(),
    /** JSON: field name → value; no secrets. */
    applied: text().notNull(),
    secretChanges: integer('secret_changes').notNull().default(0),
  },
  (table) => [primaryKey({ columns: [table.kind, table.resource] })],
)

/** Which audit keys have written here: a check value per key id, so that an exchanged key does not pass unnoticed. */
export const auditKeys = sqliteTable('audit_keys', {
  id: integer().primaryKey(),
  check: text('check_value').notNull(),
  since: text()
    .notNull()
    .default(sql`(strftime('%Y-%m-%dT%H:%M:%fZ','now'))`),
})
