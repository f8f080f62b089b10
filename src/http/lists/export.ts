import { parseAccept } from 'hono/utils/accept'
import { mayAuditConnection } from '../../access/rules.ts'
import type { CallerContext } from '../operation.ts'
import type { ReadHistory } from './query.ts'

/** A whole list as a stream: NDJSON or CSV, chosen by `Accept`. */

const NDJSON = 'application/x-ndjson'
const CSV = 'text/csv'
type Format = typeof NDJSON | typeof CSV

/** The format that a media range selects; undefined selects a page of JSON. */
const ranges = new Map<string, Format | undefined>([
  [NDJSON, NDJSON],
  [CSV, CSV],
  ['text/*', CSV],
  ['application/json', undefined],
  ['application/*', undefined],
  ['*/*', undefined],
])

/** Rows read at a time; this blocks the event loop. */
const BATCH = 250

/** The export format that the client prefers most among the supported ones; ties go to the first (RFC 9110 §12.5.1). */
export function exportFormat(headers: Headers): Format | undefined {
  const [best] = parseAccept(headers.get('accept') ?? '')
    .filter(({ q }) => q > 0)
    .map(({ type }) => type.toLowerCase())
    .filter((type) => ranges.has(type))
  return best === undefined ? undefined : ranges.get(best)
}

/** RFC 4180. What a spreadsheet would take for a formula is quoted as text by an apostrophe. */
function cell(value: unknown): string {
  if (value === null || value === undefined) return ''
  const plain = typeof value === 'object' ? JSON.stringify(value) : String(value)
  const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

const record = (values: unknown[]): string => `${values.map(cell).join()}\r\n`

/** Ends of lines to many a reader, which JSON leaves as they are in a string. */
const LINE_ENDS = /[\u0085\u2028\u2029]/g
const toLine = (value: unknown): string =>
  `${JSON.stringify(value).replace(LINE_ENDS, (end) => `\\u${end.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`

/** Connections that did not answer are listed in the last line; a CSV has no place for them, and is cut off instead. */
function ending(format: Format, unanswered: string[]): string {
  if (unanswered.length === 0) return ''
  if (format === CSV) throw new Error(`no answer from ${unanswered.join(', ')}`)
  return toLine({ unanswered })
}

/**
 * Everything that `show` leaves, newest first. The next rows are read when the client has taken the ones before, so
 * that an export of any length needs the memory of one batch.
 */
export function historyExport<T extends { id: string }>(
  { caller, query, requestId }: CallerContext,
  format: Format,
  columns: readonly string[],
  { connections, log, read, show }: ReadHistory<T>,
): Response {
  const encoder = new TextEncoder()
  let before = query['cursor']
  let left = Number(query['limit'] ?? Infinity)
  let more = connections?.length !== 0
  const silent: string[] = []
  const touches = (connection: string): boolean => mayAuditConnection(caller, connection)

  /** Aborted when the client has gone. */
  const gone = new AbortController()

  async function nextLines(): Promise<string> {
    let lines = ''
    // Where the caller may see nothing of a batch, the next one is read.
    while (lines === '' && more && left > 0 && !gone.signal.aborted) {
      const part = await read({
        ...(before !== undefined && { before }),
        limit: BATCH,
        except: silent,
        touches,
      })
      silent.push(...part.unanswered)
      before = part.end ?? before
      more = part.end !== null
      for (const row of part.rows) {
        const item = show(row) as Record<string, unknown> | undefined
        if (item === undefined || left === 0) continue
        left -= 1
        lines += format === CSV ? record(columns.map((name) => item[name])) : toLine(item)
      }
    }
    return lines
  }

  let begun = false
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const head = format === CSV && !begun ? record([...columns]) : ''
        begun = true
        try {
          const lines = await nextLines()
          if (gone.signal.aborted) return
          const ends = !more || left === 0
          const text = head + lines + (ends ? ending(format, silent) : '')
          if (text !== '') controller.enqueue(encoder.encode(text))
          if (ends) controller.close()
        } catch (error) {
          // The status is long gone: what is left is to cut the stream, so that it does not look whole.
          log.error('export cut off', { requestId, error: String(error) })
          throw error
        }
      },
      cancel() {
        gone.abort()
      },
    },
    { highWaterMark: 0 },
  )
  return new Response(body, { headers: { 'content-type': `${format}; charset=utf-8` } })
}
