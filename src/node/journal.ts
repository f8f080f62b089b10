import {
  appendFileSync,
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs'
import type { StoredAnswer } from '../change/idempotency.ts'
import type { Emergency, Entry, Ledger } from '../ledger/types.ts'
import type { Log } from '../lib/log.ts'
import { plainSpelling } from '../model/resource-id.ts'

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

/** Whether an error says something of the store and nothing of what was to be written: it may be over later. */
const isOfTheStore = (error: unknown): boolean => {
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } }
  return /^SQLITE_(BUSY|LOCKED|FULL|IOERR|READONLY|CANTOPEN|NOMEM)/.test(String(code ?? cause?.code))
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
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o600)
  /** Zeroes from `from` on, so that the whole space is taken and nothing of an unfinished line is left. */
  const clear = (from: number): void => {
    const zeros = Buffer.alloc(SIZE - from)
    for (let done = 0; done < zeros.length;)
      done += writeSync(fd, zeros, done, zeros.length - done, from + done)
    fsyncSync(fd)
  }
  const read = (): { lines: string[]; end: number } => {
    const text = readFileSync(file)
    const zero = text.indexOf(0)
    const used = zero === -1 ? text : text.subarray(0, zero)
    // A line without its end was cut by a crash in the middle of writing: it was never acknowledged.
    const end = used.lastIndexOf(10) + 1
    return { lines: used.subarray(0, end).toString('utf8').split('\n').slice(0, -1), end }
  }
  const asideFile = `${file}.set-aside`
  /** Lines that are kept there by now: what is tried again is not kept twice. */
  const aside = new Set<string>()
  /** Keeps a line that the ledger cannot take, for a person to look at. Throws where it cannot be kept. */
  const setAside = (line: string, why: string, changeId?: string | null): void => {
    if (aside.has(line)) return
    appendFileSync(asideFile, `${line}\n`, { flush: true, mode: 0o600 })
    aside.add(line)
    log.error('outcome set aside', { file: asideFile, changeId: changeId ?? null, why })
  }

  /** Takes one line into the ledger, or sets it aside. Throws where the store takes nothing. */
  async function take(line: string): Promise<void> {
    let entry: Entry
    try {
      entry = inPlainText(JSON.parse(line) as Entry)
    } catch {
      return setAside(line, 'it cannot be read')
    }
    const { changeId, outcome } = entry.draft
    const change = ledger.change(changeId ?? '')
    if (!change) {
      const why = 'the database does not know the change: it is an older one, or another'
      return setAside(line, why, changeId)
    }
    // A crash between the commit and the clearing leaves entries that the ledger has already.
    if (change.state !== 'in_flight') {
      const isKnown = ledger.story(change.id).some((event) => event.outcome === outcome)
      return isKnown ? undefined : setAside(line, `the change is ${change.state} by now`, changeId)
    }
    try {
      await ledger.append(entry)
    } catch (error) {
      if (isOfTheStore(error)) throw error
      // Where something else can be committed, and this can still not be, it is the line's fault.
      await probe()
      await ledger.append(entry).catch((again: unknown) => {
        if (isOfTheStore(again)) throw again
        setAside(line, String(again), changeId)
      })
    }
  }

  let { end } = read()
  clear(end)
  let sick = end > 0

  return {
    isDegraded: () => sick,

    keep(entry) {
      sick = true
      // Written to a file without a name it would be lost.
      if (fstatSync(fd).nlink === 0) {
        log.error('emergency journal is gone', { file })
        return false
      }
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
        for (const line of read().lines) await take(line)
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
