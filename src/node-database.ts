import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { eq, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import type { Commit, Db } from './ledger/ledger.ts'
import * as schema from './ledger/schema.ts'

export interface NodeDatabase {
  db: Db
  commit: Commit
  /** Whether the last write that was asked of it was committed. */
  takesWrites(): boolean
  /** Rejects when nothing can be committed. */
  probe(): Promise<void>
  close(): void
}

/** How long a lock that another process holds is waited for before a write is refused, and how often it is tried. Milliseconds. */
const LOCK_PATIENCE = 1000
const LOCK_INTERVAL = 20

/** What a probe asks room for: more than an intent and its outcome take. Bytes. */
const PROBE_BYTES = 32 * 1024

const isBusy = (error: unknown): boolean =>
  error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY')

/**
 * Opens and migrates the embedded database as its only gateway. Every commit is on disk before it counts
 * (`synchronous=FULL`); readers and backups by other processes are welcome.
 */
export function openDatabase(file: string): NodeDatabase {
  mkdirSync(dirname(file), { recursive: true })
  const lock = own(file)
  // Without a time-out: the driver would wait inside the event loop, so waiting is done outside.
  const sqlite = new Database(file, { timeout: 0 })
  sqlite.pragma('journal_mode = WAL')
  sqlite.pragma('synchronous = FULL')
  sqlite.pragma('recursive_triggers = ON')
  // KiB: half of the driver's default, which was no faster at a million events.
  sqlite.pragma('cache_size = -8000')
  const db = drizzle(sqlite, { schema })
  migrate(db, { migrationsFolder: fileURLToPath(new URL('../migrations', import.meta.url)) })
  const { commit, takesWrites } = groupCommit(sqlite, raiseEpoch(db))
  const room = db
    .update(schema.epoch)
    .set({ room: sql`zeroblob(${sql.placeholder('bytes')})` })
    .where(eq(schema.epoch.one, 1))
    .prepare()
  return {
    db,
    commit,
    takesWrites,
    async probe() {
      await commit(() => void room.run({ bytes: PROBE_BYTES }))
      await commit(() => void room.run({ bytes: 0 }))
    },
    close() {
      sqlite.close()
      lock.close()
    },
  }
}

/**
 * Holds a lock in a database of its own for the life of the process; SQLite frees it when the process dies, however it
 * dies. The file must never be opened otherwise in this process: closing any handle of it drops the lock.
 */
function own(file: string): Database.Database {
  const lock = new Database(`${file}.lock`, { timeout: 0 })
  try {
    lock.exec('BEGIN EXCLUSIVE')
    return lock
  } catch (error) {
    lock.close()
    if (!isBusy(error)) throw error
    throw new Error(
      `another gateway process is running on ${file}; stop it first, or give this one another DATABASE`,
      {
        cause: error,
      },
    )
  }
}

/** Backs the lock up where a lock file was deleted: throws as soon as another process has opened the database. */
function raiseEpoch(db: Db): () => void {
  const { epoch } = schema
  const { value } = db
    .insert(epoch)
    .values({ one: 1, epoch: 1 })
    .onConflictDoUpdate({ target: epoch.one, set: { epoch: sql`${epoch.epoch} + 1` } })
    .returning({ value: epoch.epoch })
    .get()
  const current = db.select({ value: epoch.epoch }).from(epoch).where(eq(epoch.one, 1)).prepare()
  return () => {
    if (current.get()?.value !== value) throw new Error('another gateway process has taken the database over')
  }
}

interface Job {
  write: () => unknown
  /** Until when a foreign lock is waited for, on the monotonic clock. */
  patientUntil: number
  done(value: unknown): void
  failed(error: unknown): void
}

/**
 * All writes of one turn of the event loop in one transaction, so that one fsync serves them all. When one throws, they
 * are run again with a savepoint each, so that it takes nothing of the others with it: a write must be repeatable.
 */
function groupCommit(
  sqlite: Database.Database,
  checkEpoch: () => void,
): { commit: Commit; takesWrites: () => boolean } {
  // IMMEDIATE: a deferred transaction that has read cannot be retried once somebody else has written.
  const begin = sqlite.prepare('BEGIN IMMEDIATE')
  const end = sqlite.prepare('COMMIT')
  const mark = sqlite.prepare('SAVEPOINT write')
  const keep = sqlite.prepare('RELEASE write')
  const undo = sqlite.prepare('ROLLBACK TO write')
  let queue: Job[] = []
  let flushing = false
  let taken = true

  function runOne({ write, done, failed }: Job): () => void {
    mark.run()
    try {
      const value = write()
      keep.run()
      return () => done(value)
    } catch (error) {
      // A full disk or a failing one rolls the whole transaction back by itself.
      if (!sqlite.inTransaction) throw error
      undo.run()
      keep.run()
      taken = false
      return () => failed(error)
    }
  }

  function runAll(batch: Job[]): (() => void)[] {
    const values = batch.map(({ write }) => write())
    return batch.map(
      ({ done }, index) =>
        () =>
          done(values[index]),
    )
  }

  /**
   * Runs and commits the batch in the transaction that has begun; false when nothing of it was done, because a write
   * threw and they are to be run one by one. Not at first, because a savepoint copies every page that is written.
   */
  function commitBatch(batch: Job[], oneByOne: boolean): boolean {
    let reports: (() => void)[]
    let ran = false
    try {
      checkEpoch()
      taken = true
      reports = oneByOne ? batch.map(runOne) : runAll(batch)
      ran = true
      end.run()
    } catch (error) {
      const open = sqlite.open && sqlite.inTransaction
      if (open) sqlite.exec('ROLLBACK')
      // A full disk or a failing one rolls back by itself.
      if (open && !ran && !oneByOne) return false
      taken = false
      reports = batch.map(
        ({ failed }) =>
          () =>
            failed(error),
      )
    }
    for (const report of reports) report()
    return true
  }

  /** Whatever has come while a lock was waited for goes into the batch too; each write has its own patience. */
  async function flush(): Promise<void> {
    let oneByOne = false
    while (queue.length > 0) {
      try {
        begin.run()
      } catch (error) {
        taken = false
        const now = performance.now()
        const lost = queue.filter(({ patientUntil }) => !isBusy(error) || patientUntil <= now)
        queue = queue.filter((job) => !lost.includes(job))
        for (const { failed } of lost) failed(error)
        await pause(LOCK_INTERVAL)
        continue
      }
      const batch = queue
      queue = []
      oneByOne = !commitBatch(batch, oneByOne)
      if (oneByOne) queue = [...batch, ...queue]
    }
    flushing = false
  }

  const commit: Commit = <T>(write: () => T) =>
    new Promise<T>((resolve, reject) => {
      const patientUntil = performance.now() + LOCK_PATIENCE
      queue.push({ write, patientUntil, done: (value) => resolve(value as T), failed: reject })
      if (flushing) return
      flushing = true
      setImmediate(() => void flush())
    })
  return { commit, takesWrites: () => taken }
}
