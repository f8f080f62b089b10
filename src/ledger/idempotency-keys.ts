import { and, eq, getTableColumns, isNotNull, isNull, lt, sql } from 'drizzle-orm'
import { idempotency } from './schema.ts'
import { place, placeholders } from './statements.ts'
import type { Commit, Db, KeyScope, Reservation, ReservedKey } from './types.ts'

/** How long the answer to a key is kept after the outcome: 24 hours, in milliseconds. */
const KEY_LIFETIME = 24 * 60 * 60 * 1000
/** How often a key may come with another request in this time (milliseconds), for each of them is a guess at the first. */
const MISMATCHES = 5
const MISMATCH_WINDOW = 60 * 60 * 1000
/** A time that is ahead was written by a clock that was set back, and counts as over. */
const isWithin = (since: number, ms: number, now: number): boolean => now >= since && now < since + ms
/** Expired keys that one append clears away at the most, so that no append is slow. */
const KEYS_CLEARED = 20

/** The keys of changes, each with what it answers. What has no promise belongs inside of a transaction. */
export interface IdempotencyKeys {
  find(scope: KeyScope): ReservedKey | undefined
  /** Counts that the key came with another request than it was reserved for. */
  countMismatch(scope: KeyScope): Promise<void>
  /** Takes a free key for the change, and clears some away that have expired. */
  reserve(reservation: Reservation, changeId: string): void
  /** Keeps what the change's key answers, or frees the key. */
  answer(changeId: string, value: object | 'release'): void
  /** The change's key is kept from now on for its lifetime. */
  expire(changeId: string): void
}

export function openIdempotencyKeys(db: Db, commit: Commit): IdempotencyKeys {
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
  // A row under the key has expired: a key in use was found before.
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
  const expire = (changeId: string): void =>
    void expireKey.run({ changeId, expiresAt: Date.now() + KEY_LIFETIME })

  return {
    expire,

    find(scope) {
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

    reserve({ fingerprint, ...scope }: Reservation, changeId: string): void {
      for (const expired of expiredKeys.all({ now: Date.now() }))
        deleteKey.run({ changeId: expired.changeId })
      const unused = { mismatches: 0, mismatchedSince: 0, answer: null, expiresAt: null }
      insertKey.run({ ...scope, fingerprint, changeId, ...unused })
    },

    answer(changeId: string, value: object | 'release'): void {
      if (value === 'release') {
        deleteKey.run({ changeId })
        return
      }
      answerKey.run({ changeId, answer: JSON.stringify(value) })
      expire(changeId)
    },
  }
}
