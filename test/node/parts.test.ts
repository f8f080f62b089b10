import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openLedger } from '../../src/ledger/ledger.ts'
import { type Ledger } from '../../src/ledger/types.ts'
import { type NodeDatabase, openDatabase } from '../../src/node/database.ts'
import { home } from '../harness/home.ts'
import { silent } from '../harness/silent-log.ts'
import { draftOf } from '../ledger/subject.ts'

let folder = ''
let database: NodeDatabase
let ledger: Ledger
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'parts-'))
  database = openDatabase(join(folder, 'gateway.db'), silent, home)
  ledger = openLedger(database.db, database.commit)
})
afterAll(() => {
  database.close()
  rmSync(folder, { recursive: true })
})

test('what matches everything but one thing is looked for in parts, and found', async () => {
  const actor = { caller: 'busy', key: null, address: null }
  const busy = { actor, type: 'outcome' as const, outcome: 'applied' as const, upstream: {} }
  const rare = [await ledger.append({ connection: 'quiet', draft: draftOf(busy) })]
  for (let n = 0; n < 25_000; n += 500) {
    await Promise.all(
      Array.from({ length: 500 }, () => ledger.append({ connection: 'a', draft: draftOf(busy) })),
    )
  }
  rare.unshift(await ledger.append({ connection: 'quiet', draft: draftOf(busy) }))
  const found: unknown[] = []
  const parts: number[] = []
  for (let before: string | null = '~'; before !== null;) {
    const { rows, end } = ledger.events({ actor: 'busy', connections: ['quiet'], limit: 10, before })
    found.push(...rows.map(({ id }) => id))
    parts.push(rows.length)
    if (end !== null) expect(end < before).toBe(true)
    before = end
  }
  expect(found).toEqual(rare.map(({ id }) => id))
  expect(parts).toEqual([1, 1])
})
