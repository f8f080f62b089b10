import { and, eq, lte } from 'drizzle-orm'
import type { Kind } from '../model.ts'
import type { Actor } from './event.ts'
import type { Db, EventDraft } from './ledger.ts'
import { refusals } from './schema.ts'

/** A known caller asked for what it may not have. */
export interface RefusedAttempt {
  actor: Actor
  /** The slug of what it was told. */
  problem: string
  alias: string | null
  kind: Kind | null
  resource: string | null
  requestId: string
}

/** At most one event in this time for a connection, a caller and a problem. Milliseconds. */
export const FOLD_MS = 60_000

/**
 * Folds refused attempts into events: the first is told at once, those of the next minute together when it is over.
 * What is counted is stored, so a crash loses none. Both functions belong inside a transaction.
 */
export function foldRefusals(db: Db, insert: (connection: string, draft: EventDraft) => unknown) {
  const rowOf = (connection: string, caller: string, problem: string) =>
    and(eq(refusals.connection, connection), eq(refusals.caller, caller), eq(refusals.problem, problem))

  function tell(connection: string, { problem, ...attempt }: RefusedAttempt, count: number): void {
    insert(connection, {
      ...attempt,
      type: 'refused',
      changeId: null,
      fields: {},
      widens: false,
      reason: null,
      outcome: null,
      upstream: null,
      refusal: { problem, count },
    })
  }

  /** When the next minute is over, in epoch milliseconds. */
  function next(): number | undefined {
    const row = db.select({ since: refusals.since }).from(refusals).orderBy(refusals.since).limit(1).get()
    return row && row.since + FOLD_MS
  }

  return {
    add(connection: string, attempt: RefusedAttempt, now: number): void {
      const { problem, actor } = attempt
      const row = db
        .select()
        .from(refusals)
        .where(rowOf(connection, actor.caller, problem))
        .get()
      if (row && now - row.since < FOLD_MS) {
        const first = row.first ?? JSON.stringify(attempt)
        db.update(refusals)
          .set({ count: row.count + 1, first })
          .where(rowOf(connection, actor.caller, problem))
          .run()
        return
      }
      const first = row?.first ? (JSON.parse(row.first) as RefusedAttempt) : attempt
      tell(connection, first, (row?.count ?? 0) + 1)
      const begun = { since: now, count: 0, first: null }
      db.insert(refusals)
        .values({ connection, caller: actor.caller, problem, ...begun })
        .onConflictDoUpdate({ target: [refusals.connection, refusals.caller, refusals.problem], set: begun })
        .run()
    },

    next,

    /** Tells of what was counted in minutes that are over. */
    flush(now: number): number | undefined {
      const over = db
        .select()
        .from(refusals)
        .where(lte(refusals.since, now - FOLD_MS))
        .limit(100)
        .all()
      for (const { connection, caller, problem, count, first } of over) {
        const own = rowOf(connection, caller, problem)
        if (first === null) {
          db.delete(refusals).where(own).run()
          continue
        }
        tell(connection, JSON.parse(first) as RefusedAttempt, count)
        db.update(refusals).set({ since: now, count: 0, first: null }).where(own).run()
      }
      return next()
    },
  }
}
