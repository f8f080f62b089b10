import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { mergeSlices } from '../../src/ledger/history.ts'

interface Row {
  id: string
}

const isShown = ({ id }: Row): boolean => Number.parseInt(id, 10) % 3 !== 0

const newestFirst = (rows: Row[]): Row[] => rows.toSorted((a, b) => (a.id < b.id ? 1 : -1))

/** A store that looks as far down from a cursor as it likes, at one row at least, and leaves out every third. */
const storeOf = (rows: Row[], cuts: number[]) => {
  let turn = 0
  return (before: string | undefined, limit: number) => {
    const left = newestFirst(rows).filter(({ id }) => before === undefined || id < before)
    const cut = Math.max(1, Math.min(limit, cuts[turn++ % cuts.length] ?? 1))
    const looked = left.slice(0, cut)
    return { rows: looked.filter(isShown), end: left.length <= cut ? null : (looked.at(-1)?.id ?? '') }
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
        let before: string | undefined
        for (let goesOn = true, rounds = 0; goesOn; rounds++) {
          if (rounds > 300) throw new Error('the pages do not end')
          const page = mergeSlices(
            stores.map((read) => read(before, limit)),
            limit,
          )
          expect(page.rows.length).toBeLessThanOrEqual(limit)
          if (page.end !== null && before !== undefined) expect(page.end < before).toBe(true)
          seen.push(...page.rows)
          before = page.end ?? undefined
          goesOn = page.end !== null
        }
        expect(seen).toEqual(newestFirst(all.flat()).filter(isShown))
      },
    ),
    { numRuns: 500 },
  )
})
