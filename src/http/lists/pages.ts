import { z } from '@hono/zod-openapi'
import { mayAuditConnection } from '../../access/rules.ts'
import type { CallerContext } from '../operation.ts'
import { exportFormat, historyExport } from './export.ts'
import { DEFAULT_LIMIT, type ReadHistory } from './query.ts'

/** What the lists of events and of changes have in common: their filters, and pages of what the caller may see. */

/** Rows read at a time, at the most, while looking for those that the caller may see. */
const BATCH = 500
/** Rows that one request reads at the most; the cursor goes on from there. */
const MAX_SCAN = 10_000
/** Characters after which a page ends before its limit. */
const MAX_PAGE = 8 * 1024 * 1024

export const pageOf = (item: z.ZodType, things: string) => ({
  200: {
    description:
      `One page. It may hold fewer ${things} than \`limit\` and still have a next one. With \`Accept: ` +
      `application/x-ndjson\` or \`text/csv\` all ${things}, or the newest \`limit\`, as a stream: one on a line, newest ` +
      'first. When connections stop to answer in the middle of it, the rest goes on without them: NDJSON ends with a ' +
      'line `{"unanswered":["name"]}`, CSV is cut off, so that nothing incomplete looks whole.',
    content: {
      'application/x-ndjson': { schema: item },
      'text/csv': {
        schema: z.string().openapi({
          description: 'RFC 4180, with a header; lists and objects as JSON, formulas as text.',
        }),
      },
      'application/json': {
        schema: z.object({
          data: z.array(item),
          nextCursor: z.string().nullable(),
          unanswered: z.array(z.string()).openapi({
            description: `Connections that did not answer in time: their ${things} are missing from this page. Ask again, with the same cursor.`,
            example: [],
          }),
        }),
      },
    },
  },
})

/** A page of the list, or all of it, as the caller would have it. */
export async function historyAnswer<T extends { id: string }>(
  context: CallerContext,
  columns: readonly string[],
  history: ReadHistory<T>,
): Promise<Response> {
  const format = exportFormat(context.request.headers)
  return format ? historyExport(context, format, columns, history) : historyPage(context, history)
}

/** One page of what `show` leaves, newest first. */
async function historyPage<T extends { id: string }>(
  { caller, query }: CallerContext,
  { connections, read, show }: ReadHistory<T>,
): Promise<Response> {
  const limit = Number(query['limit'] ?? DEFAULT_LIMIT)
  const shown: string[] = []
  let size = 0
  let before = query['cursor']
  let more = connections?.length !== 0
  const except: string[] = []
  // As many as are wanted, and more where the caller may not see them.
  let asked = Math.min(limit, BATCH)
  for (let scanned = 0; more && shown.length < limit && scanned < MAX_SCAN && size < MAX_PAGE;) {
    const { rows, end, unanswered } = await read({
      ...(before !== undefined && { before }),
      limit: asked,
      except,
      touches: (connection) => mayAuditConnection(caller, connection),
    })
    scanned += asked
    asked = Math.min(asked * 2, BATCH)
    except.push(...unanswered)
    more = end !== null
    let left = rows.length
    for (const row of rows) {
      if (shown.length === limit || size >= MAX_PAGE) {
        more = true
        break
      }
      before = row.id
      left -= 1
      const item = show(row)
      if (item === undefined) continue
      const text = JSON.stringify(item)
      size += text.length
      shown.push(text)
    }
    if (left === 0) before = end ?? before
  }
  const nextCursor = more && before !== undefined ? before : null
  const rest = JSON.stringify({ nextCursor, unanswered: except })
  // Joined as text: the rows were serialized to be measured.
  const body = `{"data":[${shown.join()}],${rest.slice(1)}`
  return new Response(body, { headers: { 'content-type': 'application/json' } })
}
