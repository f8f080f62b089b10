import type { Entry } from './ledger.ts'

/**
 * Where outcomes go that the ledger cannot take. While it holds any, or could not hold one, writes are off: nothing new
 * is begun that could not be recorded either.
 */
export interface Emergency {
  /** Keeps the entry durably; false when even that failed. */
  keep(entry: Entry): boolean
  /** Whether writes are off. */
  isSick(): boolean
}
