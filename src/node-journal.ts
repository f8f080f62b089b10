import { closeSync, existsSync, fdatasyncSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import type { Emergency } from './ledger/emergency.ts'
import type { Entry, Ledger } from './ledger/ledger.ts'
import type { Log } from './log.ts'

/** Bytes set aside for outcomes that the ledger cannot take: some thousand of them. */
const SIZE = 1 << 20

export interface NodeJournal extends Emergency {
  /** Tries to move what is kept into the ledger; writes are on again once that, or a probe, is committed. */
  heal(): Promise<void>
  close(): void
}

/**
 * The emergency journal: a file whose space is taken beforehand, so that a full disk cannot refuse it. One JSON line per
 * outcome, fsynced; what follows the last line is zero bytes. Entries hold what the audit would hold, and no secret.
 */
export function openJournal(file: string, ledger: Ledger, probe: () => Promise<void>, log: Log): NodeJournal {
  const fresh = !existsSync(file)
  const fd = openSync(file, fresh ? 'w+' : 'r+')
  if (fresh) {
    writeSync(fd, Buffer.alloc(SIZE), 0, SIZE, 0)
    fsyncSync(fd)
  }
  const read = (): { entries: Entry[]; end: number } => {
    const text = readFileSync(file)
    const used = text.subarray(0, Math.max(0, text.indexOf(0)))
    // A line without its end was cut by a crash in the middle of writing: it was never acknowledged.
    const end = used.lastIndexOf(10) + 1
    const lines = used.subarray(0, end).toString('utf8').split('\n').slice(0, -1)
    return { entries: lines.map((line) => JSON.parse(line) as Entry), end }
  }
  let { end } = read()
  let sick = end > 0

  return {
    isSick: () => sick,

    keep(entry) {
      sick = true
      const line = Buffer.from(`${JSON.stringify(entry)}\n`)
      // The zero byte behind the last line must stay.
      if (end + line.length >= SIZE) return false
      try {
        writeSync(fd, line, 0, line.length, end)
        fdatasyncSync(fd)
      } catch (error) {
        log.error('emergency journal not written', { changeId: entry.draft.changeId, error: String(error) })
        return false
      }
      end += line.length
      return true
    },

    async heal() {
      if (!sick) return
      const kept = end
      try {
        for (const entry of read().entries) {
          const [change] = ledger.changes({ change: entry.draft.changeId ?? '', limit: 1 })
          // A crash between the commit and the clearing below leaves entries that the ledger has already.
          if (change?.state === 'in_flight') await ledger.append(entry)
        }
        await probe()
      } catch (error) {
        log.warn('store still sick', { error: String(error) })
        return
      }
      if (kept !== end) return // more was kept meanwhile: the next round takes it along
      writeSync(fd, Buffer.alloc(end), 0, end, 0)
      fdatasyncSync(fd)
      end = 0
      sick = false
      log.info('store healthy again', {})
    },

    close: () => closeSync(fd),
  }
}
