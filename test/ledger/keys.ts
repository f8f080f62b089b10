import { eq, sql } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import type { AuditEvent } from '../../src/ledger/event.ts'
import { registerAuditKey } from '../../src/ledger/ledger.ts'
import { idempotency } from '../../src/ledger/schema.ts'
import { type KeyScope } from '../../src/ledger/types.ts'
import { deriveAuditKeys } from '../../src/lib/keyed-digests.ts'
import type { Outcome } from '../../src/model/enums.ts'
import type { OnLedger, Subject } from './subject.ts'

const DAY = 24 * 60 * 60 * 1000
const MINUTE = 60 * 1000

const fingerprint = 'hmac-sha256:1:abc'
const scopeOf = (subject: Subject, name = 'key'): KeyScope => ({
  caller: 'billing',
  subject: '',
  kind: 'credential',
  resource: `main:${subject.connection}`,
  key: `${name} ✓`,
})

/** The intent of a change that takes the key. */
const reserving = (subject: Subject, scope = scopeOf(subject)): Promise<AuditEvent> =>
  subject.append({ kind: scope.kind, resource: scope.resource }, { reserve: { ...scope, fingerprint } })

const expiryOf = ({ db }: Subject, { changeId }: AuditEvent) =>
  db
    .select({ at: idempotency.expiresAt })
    .from(idempotency)
    .where(eq(idempotency.changeId, changeId ?? ''))
    .get()?.at

/** Moves the expiry of the change's key, instead of waiting for it. */
const age = ({ db }: Subject, { changeId }: AuditEvent, by: number) =>
  db
    .update(idempotency)
    .set({ expiresAt: sql`${idempotency.expiresAt} - ${by}` })
    .where(eq(idempotency.changeId, changeId ?? ''))
    .run()

export function keys(onLedger: OnLedger): void {
  test(
    'from the intent on, for its scope only',
    onLedger(async (subject) => {
      const { ledger } = subject
      const scope = scopeOf(subject)
      const { changeId } = await reserving(subject)
      expect(ledger.reservedKey(scope)).toEqual({ changeId, fingerprint, answer: null })
      const others = {
        caller: 'other',
        subject: 'jwt:a',
        kind: 'role',
        resource: `${scope.resource}:b`,
        key: 'key',
      } as const
      for (const [member, other] of Object.entries(others))
        expect(ledger.reservedKey({ ...scope, [member]: other }), member).toBeUndefined()
    }),
  )

  test(
    'with the answer to its change, as it was given',
    onLedger(async (subject) => {
      const answer = { reply: { name: 'Ünïcode ✓', roles: [], from: null } }
      const intent = await reserving(subject)
      await subject.end(intent, 'applied', { answer })
      const { changeId } = intent
      expect(subject.ledger.reservedKey(scopeOf(subject))).toEqual({ changeId, fingerprint, answer })
    }),
  )

  test(
    'until it is released',
    onLedger(async (subject) => {
      const other = await reserving(subject, scopeOf(subject, 'other'))
      const intent = await reserving(subject)
      await subject.end(intent, 'not_sent', { answer: 'release' })
      expect(subject.ledger.reservedKey(scopeOf(subject))).toBeUndefined()
      expect(subject.ledger.reservedKey(scopeOf(subject, 'other'))?.changeId).toBe(other.changeId)
    }),
  )

  describe('for a day', () => {
    const ends: [string, (subject: Subject, intent: AuditEvent) => Promise<AuditEvent>][] = [
      ['it was applied', ({ end }, intent) => end(intent, 'applied', { answer: { reply: {} } })],
      ['it was refused', ({ end }, intent) => end(intent, 'rejected', { answer: { problem: {} } })],
      [
        'it was found to be in force',
        ({ append }, { changeId, resource }) =>
          append({ changeId, resource, type: 'settled', outcome: 'applied' }),
      ],
      [
        'a newer one took its place',
        async ({ append, end }, { resource }) => end(await append({ resource }), 'applied'),
      ],
    ]
    test.each(ends)('after %s', (_, end) =>
      onLedger(async (subject) => {
        const intent = await reserving(subject)
        const from = Date.now()
        await end(subject, intent)
        const until = Date.now()
        const expiry = expiryOf(subject, intent)
        expect(expiry).toBeGreaterThanOrEqual(from + DAY)
        expect(expiry).toBeLessThanOrEqual(until + DAY)

        age(subject, intent, DAY - MINUTE)
        expect(subject.ledger.reservedKey(scopeOf(subject))?.changeId).toBe(intent.changeId)
        // What comes later does not prolong it.
        const { changeId, resource } = intent
        await subject.append({ changeId, resource, type: 'resolved', outcome: 'applied' })
        age(subject, intent, MINUTE)
        expect(subject.ledger.reservedKey(scopeOf(subject))).toBeUndefined()
      })(),
    )
  })

  test.each<Outcome>(['unknown', 'partial', 'needs_attention'])('for good while it is %s', (outcome) =>
    onLedger(async (subject) => {
      const intent = await reserving(subject)
      expect(expiryOf(subject, intent)).toBeNull()
      await subject.end(intent, outcome)
      expect(expiryOf(subject, intent)).toBeNull()
    })(),
  )

  test(
    'until it came with another request five times within an hour; then not before the hour is over',
    onLedger(async (subject) => {
      const { ledger, db } = subject
      const scope = scopeOf(subject)
      const { changeId } = await reserving(subject)
      const other = scopeOf(subject, 'other')
      await reserving(subject, other)
      const blocked = () => ledger.reservedKey(scope)?.blockedUntil
      const later = (by: number) =>
        db
          .update(idempotency)
          .set({ mismatchedSince: sql`${idempotency.mismatchedSince} - ${by}` })
          .where(eq(idempotency.changeId, changeId ?? ''))
          .run()
      for (let n = 0; n < 4; n++) await ledger.countMismatch(scope)
      expect(blocked()).toBeUndefined()
      const from = Date.now()
      await ledger.countMismatch(scope)
      expect(blocked()).toBeLessThanOrEqual(from + 60 * MINUTE)
      expect(ledger.reservedKey(other)?.blockedUntil).toBeUndefined()
      later(59 * MINUTE)
      expect(blocked()).toBeGreaterThan(Date.now())
      later(MINUTE)
      expect(blocked()).toBeUndefined()
      for (let n = 0; n < 4; n++) await ledger.countMismatch(scope)
      expect(blocked()).toBeUndefined()
      await ledger.countMismatch(scope)
      expect(blocked()).toBeGreaterThan(Date.now() + 59 * MINUTE)
    }),
  )

  test(
    'that has expired for the next change that takes it',
    onLedger(async (subject) => {
      const first = await reserving(subject)
      await subject.end(first, 'applied', { answer: { reply: {} } })
      age(subject, first, DAY + MINUTE)
      const { changeId } = await reserving(subject)
      expect(changeId).not.toBe(first.changeId)
      expect(subject.ledger.reservedKey(scopeOf(subject))).toEqual({ changeId, fingerprint, answer: null })
    }),
  )

  test(
    'that has expired no longer than it takes to clear 20 of them at a time',
    onLedger(async (subject) => {
      const { db } = subject
      const expired = () =>
        db
          .select({ key: idempotency.key })
          .from(idempotency)
          .where(sql`expires_at < ${Date.now()}`)
          .all().length
      for (let at = 0; at < 25; at++) {
        const intent = await reserving(subject, scopeOf(subject, `key ${at}`))
        await subject.end(intent, 'applied', { answer: { reply: {} } })
      }
      db.update(idempotency)
        .set({ expiresAt: sql`${idempotency.expiresAt} - ${2 * DAY}` })
        .where(eq(idempotency.resource, scopeOf(subject).resource))
        .run()
      const before = expired()
      expect(before).toBeGreaterThanOrEqual(25)
      await reserving(subject, scopeOf(subject, 'next'))
      expect(expired()).toBe(before - 20)
      for (let left = before - 20; left > 0; left -= 20) await reserving(subject, scopeOf(subject, 'last'))
      expect(expired()).toBe(0)
      expect(subject.ledger.reservedKey(scopeOf(subject, 'next'))).toBeDefined()
    }),
  )

  test(
    'of the audit by its check value, so that an exchanged one is noticed',
    onLedger(({ db }) => {
      const [one, another] = [7, 8].map((byte) =>
        deriveAuditKeys({ id: 4711, bytes: Buffer.alloc(32, byte) }),
      )
      if (!one || !another) throw new TypeError('there are two keys')
      expect([one, one, another, one].map((keys) => registerAuditKey(db, keys))).toEqual([
        true,
        true,
        false,
        true,
      ])
    }),
  )
}
