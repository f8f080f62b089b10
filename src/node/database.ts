import { chmodSync, existsSync, mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { eq, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/better-sqlite3'
import { migrate } from 'drizzle-orm/better-sqlite3/migrator'
import * as schema from '../ledger/schema.ts'
import type { Commit, Db } from '../ledger/types.ts'
import type { Log } from '../lib/log.ts'
import { changedAt, checkDatabase, DatabaseFiles, inodeOf, saysMalformed, sizeOf } from './database-files.ts'

export interface NodeDatabase {
  /** There was none before. */
  isNew: boolean
  db: Db
  commit: Commit
  /** Whether the last write that was asked of it was committed. */
  takesWrites(): boolean
  /** Why nothing can be committed: the files are not the ones that were opened, or not whole. Names the file. */
  fault(): string | undefined
  /** Looks after its files; to be called every now and then. */
  look(): void
  /** Looks at an error of a read: one that says that the database is malformed ends all writing. */
  notice(error: unknown): void
  /** Rejects when nothing can be committed. */
  probe(): Promise<void>
  close(): void
}

/** How long a lock that another process holds is waited for before a write is refused, and how often it is tried. Milliseconds. */
const LOCK_PATIENCE = 1000
const LOCK_INTERVAL = 20

/** Writes after which the pages of the WAL are taken over: a thousand or so, as SQLite by itself would do. */
const CHECKPOINT_EVERY = 100

/** How often the database is checked at the most because another program has written to its file. Milliseconds. */
const RECHECK_EVERY = 60_000
/** How often a check that could not be made, or came too early, is made again. Milliseconds. */
const RETRY_EVERY = 1000

/** What a probe asks room for: more than an intent and its outcome take. Bytes. */
const PROBE_BYTES = 32 * 1024

const isPassing = (error: unknown): boolean =>
  error instanceof DatabaseFault ? error.isPassing : isBusy(error)

const isBusy = (error: unknown): boolean =>
  error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY')

/**
 * Opens the embedded database as its only gateway, and applies what is missing of `migrations/` in `home`. Every commit is on disk before it counts
 * (`synchronous=FULL`); readers and backups by other processes are welcome.
 */
export function openDatabase(file: string, log: Log, home: URL): NodeDatabase {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const lock = own(file)
  const isNew = !existsSync(file)
  const wasLeft = !isNew && isAsLeft(file, lock.left)
  const { sqlite, db, epoch } = openFile(file, new URL('migrations', home))
  const isKnown = isNew || (wasLeft && lock.left?.epoch === epoch - 1)
  for (const suffix of ['', '-wal', '-shm', '.lock', '.emergency']) makePrivate(file + suffix, log)
  const files = new DatabaseFiles(file, () => leastWal(sqlite))

  /** Why its content has to be looked at before anything is written. */
  let unchecked = isKnown ? undefined : `${file} is not as the last process left it`
  /** Set for good: what is written from now on would be lost. */
  let malformed: string | undefined

  /** What the next process is to find, if this one ends without a word. Of what is not known to be whole, nothing. */
  function leave(more: Partial<Left> = {}): void {
    const isWhole = unchecked === undefined && malformed === undefined
    const left: Left = {
      inode: inodeOf(file),
      wal: inodeOf(`${file}-wal`),
      walSize: sizeOf(`${file}-wal`),
      epoch,
      isOpen: true,
      changedAt: changedAt(file),
      ...more,
    }
    try {
      lock.leave(isWhole ? left : undefined)
    } catch (error) {
      // The next process then finds it otherwise, and checks it.
      log.warn('how the database is left was not kept', { file, error: String(error) })
    }
  }

  /** Pages are written here and nowhere else, so that any other change of them is somebody else's. */
  function checkpoint(): void {
    try {
      leave({ changedAt: null })
      sqlite.pragma('wal_checkpoint(PASSIVE)')
      leave()
      files.remember()
    } catch (error) {
      notice(error)
      log.warn('WAL not taken over', { file, error: String(error) })
    }
  }
  // A WAL that does not belong to a backup must not be written into it.
  if (isKnown) checkpoint()
  else leave()

  let checking = false
  let checkedAt = -Infinity
  let told: string | undefined
  /** Raised by each reason to check: a check that began before one says nothing of it. */
  let suspicions = 0

  async function check(why: string): Promise<void> {
    if (checking || malformed !== undefined) return
    checking = true
    log.warn('database is checked', { file, why })
    try {
      const before = suspicions
      const found = await checkDatabase(file, epoch)
      // What was read may be another file that stands there for the moment.
      if (lostFile() !== undefined) log.warn('database cannot be checked now', { file })
      else if (found !== undefined) condemn(found)
      else if (before === suspicions) {
        unchecked = undefined
        files.remember()
        leave()
        log.info('database is whole', { file })
      }
    } catch (error) {
      log.warn('database cannot be checked now', { file, error: String(error) })
    }
    checkedAt = performance.now()
    checking = false
  }

  function condemn(found: string): void {
    if (malformed !== undefined) return
    malformed = `${file} is malformed, or not the one that was opened: ${found}; stop the gateway, and ${CURE}`
    leave()
  }

  /** Which file is gone or another one. One that has become shorter has to be checked. */
  function lostFile(): string | undefined {
    const { lost, shortened } = files.examine()
    if (shortened !== undefined) {
      suspicions += 1
      unchecked ??= `${shortened} is shorter than it was`
      leave()
      void check(unchecked)
    }
    return lost
  }

  function fault(): string | undefined {
    const lost = lostFile()
    const away = lost && `${lost}; put it back, or restart the gateway`
    const found = malformed ?? away ?? (unchecked && `${unchecked}; it is being checked`)
    if (found !== told) {
      if (found === undefined) log.info('database is there again', { file })
      else log.error('database is at fault, nothing is written', { file, fault: found })
      told = found
    }
    return found
  }

  function look(): void {
    const isThere = fault() === undefined
    const since = performance.now() - checkedAt
    if (unchecked !== undefined) {
      if (since > RETRY_EVERY && lostFile() === undefined) void check(unchecked)
    } else if (isThere && since > RECHECK_EVERY && files.wasTouched())
      void check('another program has written to it')
  }
  look()

  function notice(error: unknown): void {
    if (error instanceof Database.SqliteError && saysMalformed(error.code)) condemn(error.message)
  }
  let writes = 0
  const { commit, takesWrites } = groupCommit(sqlite, {
    refuseFaulty() {
      const found = fault()
      if (found !== undefined) throw new DatabaseFault(found, checking)
    },
    checkEpoch: ownsEpoch(db, epoch),
    notice,
    committed(count) {
      writes += count
      if (writes < CHECKPOINT_EVERY) return
      writes = 0
      checkpoint()
    },
  })
  const room = db
    .update(schema.epoch)
    .set({ room: sql`zeroblob(${sql.placeholder('bytes')})` })
    .where(eq(schema.epoch.one, 1))
    .prepare()
  return {
    isNew,
    db,
    commit,
    takesWrites,
    fault,
    look,
    notice,
    async probe() {
      await commit(() => void room.run({ bytes: PROBE_BYTES }))
      await commit(() => void room.run({ bytes: 0 }))
    },
    close() {
      // Closed, it would take the WAL's pages over and delete it, whatever stands under its name by now.
      if (fault() === undefined) {
        sqlite.close()
        leave({ isOpen: false, wal: null })
      }
      lock.close()
    },
  }
}

/** The files are not what was opened, or not whole. */
class DatabaseFault extends Error {
  /** It may be over in a moment. */
  readonly isPassing: boolean

  constructor(message: string, isPassing: boolean) {
    super(message)
    this.isPassing = isPassing
  }
}

const CURE = 'put a whole backup in its place, without the files -wal and -shm beside it'

function openFile(file: string, migrations: URL): { sqlite: Database.Database; db: Db; epoch: number } {
  try {
    // Without a time-out: the driver would wait inside the event loop, so waiting is done outside.
    const sqlite = new Database(file, { timeout: 0 })
    sqlite.pragma('journal_mode = WAL')
    sqlite.pragma('synchronous = FULL')
    sqlite.pragma('recursive_triggers = ON')
    // KiB: half of the driver's default, which was no faster at a million events.
    sqlite.pragma('cache_size = -8000')
    sqlite.pragma('wal_autocheckpoint = 0')
    const db = drizzle(sqlite, { schema })
    migrate(db, { migrationsFolder: fileURLToPath(migrations) })
    return { sqlite, db, epoch: raiseEpoch(db) }
  } catch (error) {
    if (!(error instanceof Database.SqliteError) || !saysMalformed(error.code)) throw error
    throw new Error(`${file} is malformed (${error.message}); ${CURE}`, { cause: error })
  }
}

/** Bytes of the WAL that hold what was committed and not taken over, by its index in memory. */
function leastWal(sqlite: Database.Database): number {
  const [header, frameHeader] = [32, 24]
  const [{ log }] = sqlite.pragma('wal_checkpoint(NOOP)') as [{ log: number }]
  return log <= 0 ? 0 : header + log * (frameHeader + Number(sqlite.pragma('page_size', { simple: true })))
}

/** Only its owner may read it: earlier versions, or a restored backup, may have left it otherwise. */
function makePrivate(path: string, log: Log): void {
  const mode = statSync(path, { throwIfNoEntry: false })?.mode
  if (mode === undefined || (mode & 0o077) === 0) return
  try {
    chmodSync(path, 0o600)
  } catch (error) {
    log.warn('file is not the gateway’s alone', { file: path, error: String(error) })
  }
}

/** How the last process left the database. */
interface Left {
  inode: string | null
  /** Of the WAL, which is there as long as the database is open. */
  wal: string | null
  /** At the least. Bytes. */
  walSize: number
  epoch: number
  /** It was not closed: the process was killed, or still runs. */
  isOpen: boolean
  /** When the pages were written last; null in the middle of it. */
  changedAt: string | null
}

/** Whether the files are those that the last process left. One that was killed leaves them as well as one that ended. */
const isAsLeft = (file: string, left: Left | undefined): boolean =>
  left !== undefined &&
  inodeOf(file) === left.inode &&
  (left.changedAt === null || changedAt(file) === left.changedAt) &&
  (!left.isOpen || (inodeOf(`${file}-wal`) === left.wal && sizeOf(`${file}-wal`) >= left.walSize))

interface Lock {
  left: Left | undefined
  /** Undefined where the next process has to look for itself. */
  leave(left: Left | undefined): void
  close(): void
}

/**
 * Holds a lock in a database of its own for the life of the process; SQLite frees it when the process dies, however it
 * dies. The file must never be opened otherwise in this process: closing any handle of it drops the lock. It remembers how
 * the other database was left.
 */
function own(file: string): Lock {
  const lock = new Database(`${file}.lock`, { timeout: 0 })
  try {
    // What is locked once stays locked beyond the commit.
    lock.pragma('locking_mode = EXCLUSIVE')
    lock.exec(
      'BEGIN EXCLUSIVE; CREATE TABLE IF NOT EXISTS left (one INTEGER PRIMARY KEY, state TEXT NOT NULL); COMMIT',
    )
    const state = lock.prepare('SELECT state FROM left').pluck().get() as string | undefined
    const leave = lock.prepare('INSERT OR REPLACE INTO left VALUES (1, ?)')
    return {
      left: state === undefined ? undefined : ((JSON.parse(state) ?? undefined) as Left | undefined),
      leave: (left) => void leave.run(JSON.stringify(left ?? null)),
      close: () => void lock.close(),
    }
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

/** Counts the processes that have opened the database. */
function raiseEpoch(db: Db): number {
  const { epoch } = schema
  return db
    .insert(epoch)
    .values({ one: 1, epoch: 1 })
    .onConflictDoUpdate({ target: epoch.one, set: { epoch: sql`${epoch.epoch} + 1` } })
    .returning({ value: epoch.epoch })
    .get().value
}

/** Backs the lock up where a lock file was deleted: throws as soon as another process has opened the database. */
function ownsEpoch(db: Db, value: number): () => void {
  const { epoch } = schema
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
  {
    refuseFaulty,
    checkEpoch,
    notice,
    committed,
  }: {
    /** Throws where nothing may be written. */
    refuseFaulty(): void
    /** The same, inside the transaction. */
    checkEpoch(): void
    notice(error: unknown): void
    committed(writes: number): void
  },
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
      notice(error)
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
    let ended = false
    try {
      checkEpoch()
      taken = true
      reports = oneByOne ? batch.map(runOne) : runAll(batch)
      ran = true
      end.run()
      ended = true
    } catch (error) {
      notice(error)
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
    if (ended) committed(batch.length)
    return true
  }

  /** Whatever has come while a lock was waited for goes into the batch too; each write has its own patience. */
  async function flush(): Promise<void> {
    let oneByOne = false
    while (queue.length > 0) {
      try {
        refuseFaulty()
        begin.run()
      } catch (error) {
        taken = false
        notice(error)
        const now = performance.now()
        const lost = queue.filter(({ patientUntil }) => !isPassing(error) || patientUntil <= now)
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
