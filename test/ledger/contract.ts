import { describe } from 'vitest'
import { appendOnly } from './append-only.ts'
import { chains } from './chains.ts'
import { entries } from './entries.ts'
import { history } from './history.ts'
import { integrity } from './integrity.ts'
import { keys } from './keys.ts'
import { refusals } from './refusals.ts'
import { spellings } from './spellings.ts'
import { standing } from './standing.ts'
import { type OnLedger, subjectOf, type Within } from './subject.ts'
import { writes } from './writes.ts'

/** What every ledger has to hold, whatever drives its SQLite. */
export function ledgerContract(driver: string, within: Within): void {
  const onLedger: OnLedger = (test) => () => within(async (database) => test(subjectOf(database)))

  describe(`a ledger on ${driver}`, () => {
    describe('keeps a chain', () => chains(onLedger))
    describe('writes all of an entry or nothing', () => entries(onLedger))
    describe('is append-only', () => appendOnly(onLedger))
    describe('is one', () => integrity(onLedger))
    describe('keeps where a change stands', () => standing(onLedger))
    describe('tells its history', () => history(onLedger))
    describe('tells of refused attempts', () => refusals(onLedger))
    describe('keeps a key', () => keys(onLedger))
    describe('knows ids as they were spelled before', () => spellings(onLedger))
    describe('tells of writes', () => writes(onLedger))
  })
}
