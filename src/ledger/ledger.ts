import { and, desc, eq, gte, isNotNull, ne, or, sql } from 'drizzle-orm'
import type { AuditKeys } from '../lib/keyed-digests.ts'
import type { EndOf } from '../model/one-resource.ts'
import { openChain } from './chain.ts'
import { openChangeStates } from './change-states.ts'
import { type AuditEvent, toEvent } from './event.ts'
import { openIdempotencyKeys } from './idempotency-keys.ts'
import { openLists } from './lists.ts'
import { firstPosition } from './position.ts'
import { foldRefusals } from './refusals.ts'
import { openResources } from './resources.ts'
import * as schema from './schema.ts'
import type { Commit, Db, Entry, Ledger } from './types.ts'

/** Opens the ledger on a migrated database. */
export function openLedger(
  db: Db,
  commit: Commit,
  /** See `EndOf`; without it every id is a resource. */
  endOf: EndOf = (_connection, _kind, id) => id,
): Ledger {
  const { audit } = schema
  const append = openChain(db)
  const refusals = foldRefusals(db, append)
  const keys = openIdempotencyKeys(db, commit)
  const resources = openResources(db, endOf)
  const states = openChangeStates(db, endOf, { append, settled: keys.expire })

  function write(entry: Entry): AuditEvent {
    const { draft } = entry
    const event = append(entry.connection, draft)
    states.project(event)
    if (entry.applied && draft.changeId)
      resources.apply(draft, entry.applied, () => states.begun(draft.changeId ?? '') ?? 0)
    if (entry.reserve && draft.changeId) keys.reserve(entry.reserve, draft.changeId)
    if (entry.answer !== undefined && draft.changeId) keys.answer(draft.changeId, entry.answer)
    return event
  }

  /** The ends of writes that may have left: an attempt reports the one before it, an outcome the last. */
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

    change: states.find,

    story: (changeId) =>
      db.select().from(audit).where(eq(audit.changeId, changeId)).orderBy(audit.position).all().map(toEvent),

    resource: resources.find,
    open: states.open,
    isOvertaken: states.isOvertaken,
    reservedKey: keys.find,
    countMismatch: keys.countMismatch,

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
