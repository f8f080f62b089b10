import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import migration from '../../migrations/0006_plain-ids.sql?raw'
import { encodePart } from '../../src/model/resource-id.ts'
import { draftOf, type OnLedger } from './subject.ts'

/** Parts with all that was escaped until ids became plain text. */
const parts = [
  'other user',
  'a@b.example',
  "o'brien (2)!*",
  'münchen',
  '名前',
  '😀',
  '~tilde_-.',
  '+&=;,$',
  'plain',
]

/** Ids that were percent-encoded, and what becomes of what was stored under them. */
export function spellings(onLedger: OnLedger): void {
  test(
    'the migration to plain ids rewrites whatever was encoded, and nothing else',
    onLedger(async ({ db, connection, ledger }) => {
      const run = (statement: ReturnType<typeof sql>) => void db.run(statement)
      const ids = parts.map((part) => ({
        plain: `${connection}:P:${part}`,
        encoded: `${connection}:P:${encodePart(part)}`,
      }))
      for (const [index, { encoded }] of ids.entries()) {
        const answer = JSON.stringify({ reply: { resource: { id: encoded, rate: 1.5 }, note: '100 %25' } })
        const first = JSON.stringify({ resource: encoded, alias: '50%' })
        const id = `${connection}-${index}`
        run(
          sql`INSERT INTO changes VALUES (${id}, ${connection}, 'credential', ${encoded}, 'billing', 'unknown', '2026-01-01T00:00:00.000Z')`,
        )
        run(
          sql`INSERT INTO resources (kind, resource, applied) VALUES ('credential', ${encoded}, '{"a":"%41"}')`,
        )
        run(
          sql`INSERT INTO idempotency (caller, kind, resource, key, change_id, fingerprint, answer, expires_at) VALUES ('billing', 'credential', ${encoded}, 'with answer', ${id}, 'f', ${answer}, NULL)`,
        )
        run(
          sql`INSERT INTO idempotency (caller, kind, resource, key, change_id, fingerprint, answer, expires_at) VALUES ('billing', 'credential', ${encoded}, 'without', ${`${id}-2`}, 'f', NULL, NULL)`,
        )
        run(
          sql`INSERT INTO refusals (connection, caller, problem, since, count, first) VALUES (${connection}, ${id}, 'forbidden', 0, 1, ${first})`,
        )
      }
      run(
        sql`INSERT INTO refusals (connection, caller, problem, since, count, first) VALUES (${connection}, 'none', 'forbidden', 0, 0, NULL)`,
      )
      for (const statement of migration.split('--> statement-breakpoint')) run(sql.raw(statement))

      for (const [index, { plain }] of ids.entries()) {
        const id = `${connection}-${index}`
        expect(ledger.change(id)?.resource).toBe(plain)
        expect(ledger.open(connection, 'credential', plain)).toEqual([id])
        expect(ledger.resource('credential', plain).applied).toEqual({ a: '%41' })
        const scope = { caller: 'billing', subject: '', kind: 'credential' as const, resource: plain }
        expect(ledger.reservedKey({ ...scope, key: 'with answer' })?.answer).toEqual({
          reply: { resource: { id: plain, rate: 1.5 }, note: '100 %25' },
        })
        expect(ledger.reservedKey({ ...scope, key: 'without' })).toMatchObject({
          changeId: `${id}-2`,
          answer: null,
        })
        const [told] = db.all<{ first: string }>(sql`SELECT first FROM refusals WHERE caller = ${id}`)
        expect(JSON.parse(told?.first ?? '')).toEqual({ resource: plain, alias: '50%' })
      }
      run(sql`DELETE FROM refusals WHERE connection = ${connection}`)
    }),
  )

  test(
    'an event of either spelling is found by the plain id, in their order',
    onLedger(async ({ connection, ledger }) => {
      const [plain, encoded] = [`${connection}:P:other user`, `${connection}:P:other%20user`]
      const written: string[] = []
      for (const resource of [encoded, plain, encoded, encoded, plain]) {
        written.push((await ledger.append({ connection, draft: draftOf({ resource }) })).id)
      }
      expect(
        ledger
          .events({ resource: plain, limit: 100 })
          .rows.map(({ id }) => id)
          .toReversed(),
      ).toEqual(written)
      expect(
        ledger.events({ resource: plain, limit: 2, before: written[3] as string }).rows.map(({ id }) => id),
      ).toEqual([written[2], written[1]])
    }),
  )

  test(
    'a change of the newer spelling overtakes one of the older',
    onLedger(async ({ connection, ledger }) => {
      const older = await ledger.append({ connection, draft: draftOf({ resource: `${connection}:P:o%20u` }) })
      // As the migration leaves it.
      const row = ledger.change(older.changeId ?? '')
      expect(row?.resource).toBe(`${connection}:P:o%20u`)
      const newer = await ledger.append({ connection, draft: draftOf({ resource: `${connection}:P:o u` }) })
      const again = await ledger.append({ connection, draft: draftOf({ resource: `${connection}:P:o%20u` }) })
      expect(ledger.isOvertaken(newer.changeId ?? '')).toBe(true)
      expect(ledger.isOvertaken(again.changeId ?? '')).toBe(false)
    }),
  )
}
