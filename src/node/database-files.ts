import { type BigIntStats, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

/** The files of an open database in WAL mode: the pages, what was committed after them, and the index of that. */
const SUFFIXES = ['', '-wal', '-shm']

function look(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true })
  } catch {
    return undefined
  }
}

/** One file, whatever it is called; another one under its name has another. */
export const inodeOf = (path: string): string | null => {
  const stats = look(path)
  return stats ? `${stats.dev}:${stats.ino}` : null
}

/** Bytes; 0 where there is none. */
export const sizeOf = (path: string): number => Number(look(path)?.size ?? 0)

/** Changes with every write and every change of owner, mode or name, and cannot be set. Nanoseconds since 1970, in digits. */
export const changedAt = (path: string): string | null => look(path)?.ctimeNs.toString() ?? null

/**
 * How old a look at the WAL and its index may be at a commit. Milliseconds. Where their times were read since the last
 * write, Linux gives the next one an exact time of its own, which took a fourth of the throughput.
 */
const LOOK_EVERY = 50

/**
 * The files of an open database. SQLite goes on with those that it has opened, whatever happens to their names: what it
 * commits into one that was deleted or replaced is lost in silence.
 */
export class DatabaseFiles {
  readonly #paths: string[]
  readonly #leastWal: () => number
  /** By path: the file that was opened, with its size and time as they should be. */
  readonly #known: Map<string, BigIntStats>
  #lookedAt = -Infinity

  /** `leastWal`: what the WAL holds by SQLite's own count. Bytes. */
  constructor(file: string, leastWal: () => number) {
    this.#paths = SUFFIXES.map((suffix) => file + suffix)
    this.#leastWal = leastWal
    this.#known = new Map(
      this.#paths.flatMap((path) => {
        const stats = look(path)
        return stats ? [[path, stats] as const] : []
      }),
    )
  }

  /** Sizes and times are as they should be. Another file under the name of one that was opened is never taken for it. */
  remember(): void {
    for (const [path, known] of this.#known) {
      const now = look(path)
      if (now?.ino === known.ino && now.dev === known.dev) this.#known.set(path, now)
    }
  }

  /**
   * `lost`: which file is gone or another one, and how; it may come back. `shortened`: which is shorter than it was: the
   * pages, which another program may have vacuumed, or the WAL, by more than a checkpoint takes.
   */
  examine(): { lost?: string; shortened?: string } {
    const now = performance.now()
    const isFresh = now - this.#lookedAt < LOOK_EVERY
    const found = this.#lookAt(isFresh ? this.#paths.slice(0, 1) : this.#paths)
    // What is at fault is looked at again every time, so that one answer has one cause.
    if (!isFresh) this.#lookedAt = found.lost === undefined ? now : -Infinity
    return found
  }

  #lookAt(paths: string[]): { lost?: string; shortened?: string } {
    let shortened: string | undefined
    for (const path of paths) {
      const known = this.#known.get(path)
      if (!known) continue
      const now = look(path)
      if (!now) return { lost: `${path} is gone` }
      if (now.ino !== known.ino || now.dev !== known.dev) return { lost: `${path} was replaced` }
      const isCheckpointed = path.endsWith('-wal') && Number(now.size) >= this.#leastWal()
      if (now.size < known.size && !isCheckpointed) shortened = path
      // Reported once: what is found later is a shortening of its own.
      known.size = now.size
    }
    return shortened === undefined ? {} : { shortened }
  }

  /** Whether somebody else has written to the pages: they are written here at a checkpoint only. */
  wasTouched(): boolean {
    const [path = ''] = this.#paths
    return look(path)?.ctimeNs !== this.#known.get(path)?.ctimeNs
  }
}

/** Runs beside the event loop, which a check of many pages would hold up for long. */
const CHECK = `
const { parentPort, workerData: { driver, file } } = require('node:worker_threads')
const Database = require(driver)
try {
  const database = new Database(file, { readonly: true, timeout: 5000 })
  const [found] = database.pragma('quick_check(1)')
  const epoch = database.prepare('SELECT epoch FROM epoch').pluck().get()
  database.close()
  parentPort.postMessage({ found: found.quick_check, epoch })
} catch ({ code = 'UNKNOWN', message }) {
  parentPort.postMessage({ code, message })
}`

/** Codes of SQLite's that say what a file holds, and nothing of whether it can be had at the moment. */
export const saysMalformed = (code: unknown): boolean =>
  /^SQLITE_(CORRUPT|NOTADB|IOERR_SHORT_READ)/.test(String(code))

/**
 * Reads the database anew, as the next process would. Undefined where it is whole and of this process's `epoch`; otherwise
 * what is wrong with it. Rejects where it cannot be read at the moment.
 */
export async function checkDatabase(file: string, epoch: number): Promise<string | undefined> {
  const driver = fileURLToPath(import.meta.resolve('better-sqlite3'))
  const worker = new Worker(CHECK, { eval: true, workerData: { driver, file } })
  worker.unref()
  const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>()
  worker.once('message', resolve).once('error', reject)
  worker.once('exit', () => reject(new Error('the check ended without a word')))
  const { code, message, found, epoch: seen } = await promise
  if (code !== undefined && !saysMalformed(code)) throw new Error(String(message))
  if (code !== undefined) return String(message)
  if (found !== 'ok') return String(found)
  return seen === epoch ? undefined : 'it is not the one that this process has opened'
}
