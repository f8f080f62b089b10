import { closeSync, constants, fdatasyncSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import type { StoredAnswer } from './idempotency.ts'
import type { Emergency } from './ledger/emergency.ts'
import type { Entry, Ledger } from './ledger/ledger.ts'
import type { Log } from './log.ts'
import { plainSpelling } from './resource-id.ts'

/** Bytes set aside for outcomes that the ledger cannot take: some thousand of them. */
const SIZE = 1 << 20

/** The entry with the plain id wherever it names the resource: it may be from before ids became plain text. */
function inPlainText(entry: Entry): Entry {
  const { draft } = entry
  const answer = entry.answer as StoredAnswer | 'release' | undefined
  const reply = typeof answer === 'object' && 'reply' in answer ? answer.reply : undefined
  const named = reply && { ...reply, resource: { ...reply.resource, id: plainSpelling(reply.resource.id) } }
  return {
    ...entry,
    draft: { ...draft, resource: draft.resource && plainSpelling(draft.resource) },
    ...(named && { answer: { reply: named } }),
  }
}

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
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT)
  /** Zeroes from `from` on, so that the whole space is taken and nothing of an unfinished line is left. */
  const clear = (from: number): void => {
    const zeros = Buffer.alloc(SIZE - from)
    for (let done = 0; done < zeros.length;)
      done += writeSync(fd, zeros, done, zeros.length - done, from + done)
    fsyncSync(fd)
  }
  const read = (): { entries: Entry[]; end: number } => {
    const text = readFileSync(file)
    const zero = text.indexOf(0)
    const used = zero === -1 ? text : text.subarray(0, zero)
    // A line without its end was cut by a crash in the middle of writing: it was never acknowledged.
    const end = used.lastIndexOf(10) + 1
    const lines = used.subarray(0, end).toString('utf8').split('\n').slice(0, -1)
    return { entries: lines.flatMap(parseLine), end }
  }
  const parseLine = (line: string): Entry[] => {
    try {
      return [inPlainText(JSON.parse(line) as Entry)]
    } catch {
      log.error('emergency journal has a line that cannot be read', {})
      return []
    }
  }
  let { end } = read()
  clear(end)
  let sick = end > 0

  return {
    isSick: () => sick,

    keep(entry) {
      sick = true
      const line = Buffer.from(`${JSON.stringify(entry)}\n`)
      // The zero byte behind the last line must stay.
      if (end + line.length >= SIZE) return false
      try {
        for (let done = 0; done < line.length;)
          done += writeSync(fd, line, done, line.length - done, end + done)
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
          const change = ledger.change(entry.draft.changeId ?? '')
          // A crash between the commit and the clearing below leaves entries that the ledger has already.
          if (change?.state === 'in_flight') await ledger.append(entry)
        }
        await probe()
        if (kept !== end) return // more was kept meanwhile: the next round takes it along
        if (kept > 0) clear(0)
      } catch (error) {
        log.warn('store still sick', { error: String(error) })
        return
      }
      end = 0
      sick = false
      log.info('store healthy again', {})
    },

    close: () => closeSync(fd),
  }
}
