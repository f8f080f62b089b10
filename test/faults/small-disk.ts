import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A place for a database that can be filled up, and emptied again, while a gateway runs on it. */
export interface SmallDisk {
  folder: string
  /** What a shell must say before it runs the gateway. */
  prelude: string
  /** From now on nothing there grows. */
  fill(gatewayPid: number): void
  free(gatewayPid: number): void
  remove(): void
}

/** The write-ahead log is used again from its beginning after 4 MB, and 1 MB is set aside for emergencies. */
const SIZE = '6m'

const newFolder = (): string => mkdtempSync(join(tmpdir(), 'faults-disk-'))

function works(make: () => SmallDisk): boolean {
  try {
    make().remove()
    return true
  } catch {
    return false
  }
}

/** A filesystem of its own, full to its last byte. Needs the right to mount one. */
function tmpfs(): SmallDisk {
  const folder = newFolder()
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'tmpfs', folder], { stdio: 'pipe' })
  } catch (error) {
    rmSync(folder, { recursive: true })
    throw error
  }
  const ballast = join(folder, 'ballast')
  return {
    folder,
    prelude: '',
    fill() {
      const file = openSync(ballast, 'w')
      for (let bytes = 1 << 20; bytes >= 1;) {
        try {
          writeSync(file, Buffer.alloc(bytes))
        } catch {
          bytes >>= 1
        }
      }
      closeSync(file)
    },
    free: () => rmSync(ballast),
    remove() {
      execFileSync('umount', ['--lazy', folder])
      rmSync(folder, { recursive: true })
    },
  }
}

/** The process may not make any file longer than its longest is now. Needs no rights, and a Linux. */
function fileSizeLimit(): SmallDisk {
  const folder = newFolder()
  const limit = (pid: number, bytes: number | 'unlimited') =>
    execFileSync('prlimit', ['--pid', `${pid}`, `--fsize=${bytes}:unlimited`], { stdio: 'pipe' })
  limit(process.pid, 'unlimited')
  return {
    folder,
    // Without it the first write beyond the limit would end the process.
    prelude: `trap '' XFSZ`,
    fill(pid) {
      const [wal] = readdirSync(folder).filter((name) => name.endsWith('-wal'))
      if (wal === undefined) throw new Error('the database has no write-ahead log')
      limit(pid, statSync(join(folder, wal)).size)
    },
    free: (pid) => limit(pid, 'unlimited'),
    remove: () => rmSync(folder, { recursive: true }),
  }
}

/** Those of the ways that this machine allows. */
export const smallDisks: [name: string, make: () => SmallDisk][] = (
  [
    [`a tmpfs of ${SIZE}B`, tmpfs],
    ['a limit on the size of files', fileSizeLimit],
  ] satisfies [string, () => SmallDisk][]
).filter(([, make]) => works(make))
