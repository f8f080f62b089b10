import { and, eq, gt, lte, or } from 'drizzle-orm'
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

/** At most one event in this time for a connection, a caller, its key and a problem. Milliseconds. */
export const FOLD_MS = 60_000

/**
 * Folds refused attempts into events: the first is told at once, those of the next minute together when it is over.
 * What is counted is stored, so a crash loses none. Both functions belong inside a transaction.
 */
export function foldRefusals(db: Db, insert: (connection: string, draft: EventDraft) => unknown) {
  type Place = Pick<typeof refusals.$inferSelect, 'connection' | 'caller' | 'key' | 'problem'>
  const at = ({ connection, caller, key, problem }: Place) =>
    and(
      eq(refusals.connection, connection),
      eq(refusals.caller, caller),
      eq(refusals.key, key),
      eq(refusals.problem, problem),
    )

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

  /** When the next minute is over, in epoch milliseconds. One that began in the future is: a clock was set back. */
  function next(now: number): number | undefined {
    const rows = db.select({ since: refusals.since }).from(refusals).all()
    const ends = rows.map(({ since }) => (since > now ? now : since + FOLD_MS))
    return rows.length === 0 ? undefined : Math.min(...ends)
  }

  return {
    next,

    add(connection: string, attempt: RefusedAttempt, now: number): void {
      const { problem, actor } = attempt
      const place = { connection, caller: actor.caller, key: actor.key ?? '', problem }
      const row = db.select().from(refusals).where(at(place)).get()
      if (row && now >= row.since && now < row.since + FOLD_MS) {
        const first = row.first ?? JSON.stringify(attempt)
        db.update(refusals)
          .set({ count: row.count + 1, first })
          .where(at(place))
          .run()
        return
      }
      const first = row?.first ? (JSON.parse(row.first) as RefusedAttempt) : attempt
      tell(connection, first, (row?.count ?? 0) + 1)
      const begun = { since: now, count: 0, first: null }
      db.insert(refusals)
        .values({ ...place, ...begun })
        .onConflictDoUpdate({
          target: [refusals.connection, refusals.caller, refusals.key, refusals.problem],
          set: begun,
        })
        .run()
    },

    /** Tells of what was counted in minutes that are over. */
    flush(now: number): number | undefined {
      const over = db
        .select()
        .from(refusals)
        .where(or(lte(refusals.since, now - FOLD_MS), gt(refusals.since, now)))
        .all()
      for (const row of over) {
        if (row.first === null) {
          db.delete(refusals).where(at(row)).run()
          continue
        }
        tell(row.connection, JSON.parse(row.first) as RefusedAttempt, row.count)
        db.update(refusals).set({ since: now, count: 0, first: null }).where(at(row)).run()
      }
      return next(now)
    },
  }
}
