import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import type { Commit, Db } from './ledger/ledger.ts'
import * as schema from './ledger/schema.ts'

export interface NodeDatabase {
  db: Db
  commit: Commit
  close(): void
}

/** How long a lock that another process holds is waited for before a write is refused, and how often it is tried. Milliseconds. */
const LOCK_PATIENCE = 1000
const LOCK_INTERVAL = 20

/** Opens and migrates the embedded database. Every commit is on disk before it counts (`synchronous=FULL`). */
export function openDatabase(file: string): NodeDatabase {
  if (file !== ':memory:') mkdirSync(dirname(file), { recursive: true })
  // Without a time-out: the driver would wait inside the event loop, so waiting is done outside.
  const sqlite = new Database(file, { timeout: 0 })
  sqlite.pragma('journal_mode = WAL')
  sqlite.pragma('synchronous = FULL')
  sqlite.pragma('recursive_triggers = ON')
  const db = drizzle(sqlite, { schema })
  migrate(db, { migrationsFolder: fileURLToPath(new URL('../migrations', import.meta.url)) })

  const isBusy = (error: unknown): boolean =>
    error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY')

  async function commit<T>(write: () => T): Promise<T> {
    for (const end = performance.now() + LOCK_PATIENCE; ;) {
      try {
        // IMMEDIATE: a deferred transaction that has read cannot be retried once somebody else has written.
        return db.transaction(write, { behavior: 'immediate' })
      } catch (error) {
        if (!isBusy(error) || performance.now() >= end) throw error
        await new Promise((resolve) => setTimeout(resolve, LOCK_INTERVAL))
      }
    }
  }

  return { db, commit, close: () => void sqlite.close() }
}
