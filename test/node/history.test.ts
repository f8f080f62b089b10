import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { mergeSlices } from '../../src/history.ts'

interface Row {
  id: string
}

const newestFirst = (rows: Row[]): Row[] => rows.toSorted((a, b) => (a.id < b.id ? 1 : -1))

/** A store that answers with at least one row of those that it has below a cursor, and with as many as it likes. */
const storeOf = (rows: Row[], cuts: number[]) => {
  let turn = 0
  return (before: string | undefined, limit: number) => {
    const left = newestFirst(rows).filter(({ id }) => before === undefined || id < before)
    const cut = Math.max(1, Math.min(limit, cuts[turn++ % cuts.length] ?? 1))
    return { rows: left.slice(0, cut), complete: left.length <= cut }
  }
}

test('pages over several stores are all of their rows, in order and once, wherever each of them breaks off', () => {
  const store = fc.record({
    ids: fc.uniqueArray(fc.nat(999), { maxLength: 40 }),
    cuts: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 5 }),
  })
  fc.assert(
    fc.property(
      fc.array(store, { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 9 }),
      (given, limit) => {
        const all = given.map(({ ids }, at) =>
          ids.map((id) => ({ id: `${String(id).padStart(3, '0')}-${at}` })),
        )
        const stores = given.map(({ cuts }, at) => storeOf(all[at] ?? [], cuts))
        const seen: Row[] = []
        for (let complete = false, rounds = 0; !complete; rounds++) {
          if (rounds > 300) throw new Error('the pages do not end')
          const page = mergeSlices(
            stores.map((read) => read(seen.at(-1)?.id, limit)),
            limit,
          )
          expect(page.rows.length).toBeLessThanOrEqual(limit)
          if (!page.complete) expect(page.rows.length).toBeGreaterThan(0)
          seen.push(...page.rows)
          complete = page.complete
        }
        expect(seen).toEqual(newestFirst(all.flat()))
      },
    ),
    { numRuns: 500 },
  )
})

test('a part that goes on without a row is a fault, not an end', () => {
  expect(() => mergeSlices([{ rows: [], complete: false }], 10)).toThrow(TypeError)
})
