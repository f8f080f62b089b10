import { and, eq, gt, lte, or } from 'drizzle-orm'
import { refusals } from './schema.ts'
import type { Db, EventDraft, RefusedAttempt } from './types.ts'

/** At most one event in this time for a connection, a caller and a problem. Milliseconds. */
export const FOLD_MS = 60_000

/** Subjects that an event names, and that are counted apart at all: each takes its place in the row. */
const SUBJECTS_NAMED = 8
export const SUBJECTS_COUNTED = 1000

/** Of a row whose attempts are all recorded in events. */
const NOTHING = { count: 0, first: null, subjects: '[]' }

const subjectsOf = (row: { subjects: string } | undefined): string[] =>
  JSON.parse(row?.subjects ?? '[]') as string[]

/**
 * Folds refused attempts into events: the first is recorded at once, the rest of that minute as one event. Counts are
 * stored, so a crash loses none. Both functions must be called inside a transaction.
 */
export function foldRefusals(db: Db, insert: (connection: string, draft: EventDraft) => unknown) {
  type Place = Pick<typeof refusals.$inferSelect, 'connection' | 'caller' | 'problem'>
  const at = ({ connection, caller, problem }: Place) =>
    and(eq(refusals.connection, connection), eq(refusals.caller, caller), eq(refusals.problem, problem))

  function tell(
    connection: string,
    { problem, ...attempt }: RefusedAttempt,
    count: number,
    subjects: readonly string[],
  ): void {
    insert(connection, {
      ...attempt,
      type: 'refused',
      changeId: null,
      fields: {},
      widens: false,
      reason: null,
      outcome: null,
      upstream: null,
      refusal: {
        problem,
        count,
        // A single subject is named by the event's actor.
        ...(subjects.length > 1 && {
          subjects: subjects.slice(0, SUBJECTS_NAMED),
          subjectCount: subjects.length,
        }),
      },
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
      const place = { connection, caller: actor.caller, problem }
      const row = db.select().from(refusals).where(at(place)).get()
      const counted = subjectsOf(row)
      const subject = actor.key ?? ''
      const isNew = !counted.includes(subject) && counted.length < SUBJECTS_COUNTED
      if (isNew) counted.push(subject)
      if (row && now >= row.since && now < row.since + FOLD_MS) {
        const first = row.first ?? JSON.stringify(attempt)
        db.update(refusals)
          .set({ count: row.count + 1, first, ...(isNew && { subjects: JSON.stringify(counted) }) })
          .where(at(place))
          .run()
        return
      }
      const first = row?.first ? (JSON.parse(row.first) as RefusedAttempt) : attempt
      tell(connection, first, (row?.count ?? 0) + 1, counted)
      const begun = { since: now, ...NOTHING }
      db.insert(refusals)
        .values({ ...place, ...begun })
        .onConflictDoUpdate({
          target: [refusals.connection, refusals.caller, refusals.problem],
          set: begun,
        })
        .run()
    },

    /** Records what was counted in minutes that are over. */
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
        tell(row.connection, JSON.parse(row.first) as RefusedAttempt, row.count, subjectsOf(row))
        db.update(refusals)
          .set({ since: now, ...NOTHING })
          .where(at(row))
          .run()
      }
      return next(now)
    },
  }
}
