import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Entry, Ledger } from '../../src/ledger/types.ts'
import { type NodeJournal, openJournal } from '../../src/node/journal.ts'
import { silent } from '../harness/silent-log.ts'

// What the emergency journal does with an outcome that the ledger refuses: wait, or set it aside for a person.

const entry = {
  connection: 'discue',
  draft: { type: 'outcome', changeId: 'change', resource: 'discue:a', outcome: 'applied' },
} as unknown as Entry

let folder = ''
let journal: NodeJournal
/** What the ledger throws at each append, in order; then it takes what comes. */
let faults: unknown[] = []
let taken = 0
let canProbe = true
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'journal-'))
  faults = []
  taken = 0
  canProbe = true
  const ledger = {
    change: () => ({ id: 'change', state: 'in_flight' }),
    story: () => [],
    append: async () => {
      const fault = faults.shift()
      if (fault !== undefined) throw fault
      taken += 1
    },
  } as unknown as Ledger
  const probe = async (): Promise<void> => {
    if (!canProbe) throw new Error('the store takes nothing')
  }
  journal = openJournal(join(folder, 'emergency'), ledger, probe, silent)
  expect(journal.keep(entry)).toBe(true)
})
afterEach(() => {
  journal.close()
  rmSync(folder, { recursive: true })
})

const isSetAside = (): boolean => existsSync(join(folder, 'emergency.set-aside'))
const coded = (code: string): Error => Object.assign(new Error(code), { code })

test.each(['SQLITE_BUSY', 'SQLITE_BUSY_SNAPSHOT', 'SQLITE_FULL', 'SQLITE_IOERR_WRITE', 'SQLITE_READONLY'])(
  'an outcome that meets %s is kept, and taken in the next round',
  async (code) => {
    faults = [coded(code)]
    await journal.heal()
    expect([taken, journal.isDegraded(), isSetAside()]).toEqual([0, true, false])
    await journal.heal()
    expect([taken, journal.isDegraded(), isSetAside()]).toEqual([1, false, false])
  },
)

test('an outcome that is refused once, and not again, is taken', async () => {
  faults = [new Error('something in passing')]
  await journal.heal()
  expect([taken, journal.isDegraded(), isSetAside()]).toEqual([1, false, false])
})

test('an outcome is kept while nothing else can be recorded either', async () => {
  canProbe = false
  faults = [new Error('the clock is wrong'), new Error('the clock is wrong')]
  await journal.heal()
  expect([taken, journal.isDegraded(), isSetAside()]).toEqual([0, true, false])
})

test('an outcome that is refused for what it says is set aside', async () => {
  faults = [coded('SQLITE_CONSTRAINT_TRIGGER'), coded('SQLITE_CONSTRAINT_TRIGGER')]
  await journal.heal()
  expect([taken, journal.isDegraded(), isSetAside()]).toEqual([0, false, true])
  expect(readFileSync(join(folder, 'emergency.set-aside'), 'utf8')).toBe(`${JSON.stringify(entry)}\n`)
})
