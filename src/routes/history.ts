import { z } from '@hono/zod-openapi'
import type { Config } from '../config.ts'

/** What the lists of events and of changes have in common: their filters, and pages of what the caller may see. */

const DEFAULT_LIMIT = 50
const MAX_LIMIT = 1000
/** Rows read at a time while looking for those that the caller may see. */
const BATCH = 500
/** Rows that one request reads at the most; the cursor goes on from there. */
const MAX_SCAN = 10_000

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/

export const outcomes = [
  'applied',
  'rejected',
  'partial',
  'unknown',
  'not_sent',
  'superseded',
  'needs_attention',
] as const

export const historyQuery = z.object({
  since: z.iso
    .datetime({ offset: true })
    .optional()
    .openapi({ description: 'From this time on, inclusive.' }),
  until: z.iso.datetime({ offset: true }).optional().openapi({ description: 'Before this time.' }),
  actor: z.string().optional().openapi({ description: 'The caller’s name.' }),
  resource: z.string().optional().openapi({ description: 'A canonical id.' }),
  connection: z.string().optional(),
  provider: z.string().optional(),
  change: z.string().optional().openapi({ description: 'A change id.' }),
  limit: z
    .string()
    .regex(/^[1-9]\d{0,3}$/)
    .refine((text) => Number(text) <= MAX_LIMIT)
    .optional()
    .openapi({ type: 'integer', minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT }),
  cursor: z.string().regex(UUID).optional().openapi({ description: '`nextCursor` of the page before.' }),
})

/** The part of a query that both lists pass on to the ledger. */
export function historyFilter({ connections }: Config, query: Record<string, string>) {
  const { since, until, actor, resource, change, connection, provider } = query
  // A connection that is no longer configured keeps its history under its name; its provider is not known any more.
  const named = connection === undefined ? undefined : [connection]
  const provided = [...connections.values()]
    .filter((one) => one.provider === provider && (connection === undefined || one.name === connection))
    .map(({ name }) => name)
  const only = provider === undefined ? named : provided
  return {
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until }),
    ...(actor !== undefined && { actor }),
    ...(resource !== undefined && { resource }),
    ...(change !== undefined && { change }),
    ...(only && { connections: only }),
  }
}

/** One page of what `show` leaves, newest first. It may hold less than the limit and still have a next one. */
export async function historyPage<T extends { id: string }, S>(
  query: Record<string, string>,
  filter: { connections?: readonly string[] },
  read: (page: { before?: string; limit: number }) => Promise<T[]>,
  show: (row: T) => S | undefined,
): Promise<Response> {
  const limit = Number(query['limit'] ?? DEFAULT_LIMIT)
  const data: S[] = []
  let before = query['cursor']
  let more = filter.connections?.length !== 0
  for (let scanned = 0; more && data.length < limit && scanned < MAX_SCAN; scanned += BATCH) {
    const batch = await read({ ...(before !== undefined && { before }), limit: BATCH })
    more = batch.length === BATCH
    for (const row of batch) {
      if (data.length === limit) {
        more = true
        break
      }
      before = row.id
      const shown = show(row)
      if (shown !== undefined) data.push(shown)
    }
  }
  const body = { data, nextCursor: more && before !== undefined ? before : null }
  return new Response(JSON.stringify(body), { headers: { 'content-type': 'application/json' } })
}
