import { z } from '@hono/zod-openapi'
import type { Config } from '../../config/document.ts'
import type { Gathered, Scope } from '../../ledger/history.ts'
import type { Log } from '../../lib/log.ts'
import { plainSpelling } from '../../model/resource-id.ts'

/** What the lists of events and of changes have in common: their filters, and how they are read. */

export const DEFAULT_LIMIT = 50

const MAX_LIMIT = 1000

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Text spelled like an id or an alias, even if it no longer names anything. */
const ASKABLE = /^[a-z][a-z0-9-]{0,62}(:[^%]+)?$/

const TIME = { offset: true, error: 'must be a date and time with an offset (RFC 3339)' }

export const historyQuery = z.object({
  since: z.iso.datetime(TIME).optional().openapi({ description: 'From this time on, inclusive.' }),
  until: z.iso.datetime(TIME).optional().openapi({ description: 'Before this time.' }),
  actor: z.string().optional().openapi({ description: 'The caller’s name.' }),
  resource: z
    .string()
    .refine((text) => ASKABLE.test(plainSpelling(text)), 'must be an id, {connection}:{key}, or an alias')
    .optional()
    .openapi({
      description:
        'An id, or an alias, which stands for what it leads to now. Events that have the id percent-encoded, as ids were spelled before, are found too.',
    }),
  connection: z.string().optional(),
  provider: z.string().optional(),
  change: z.string().optional().openapi({ description: 'A change id.' }),
  limit: z
    .string()
    .refine((text) => /^[1-9]\d{0,3}$/.test(text) && Number(text) <= MAX_LIMIT, {
      error: `must be a whole number from 1 to ${MAX_LIMIT}`,
    })
    .optional()
    .openapi({ type: 'integer', minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT }),
  cursor: z
    .string()
    .regex(UUID, 'must be the nextCursor of a page')
    .optional()
    .openapi({ description: '`nextCursor` of the page before.' }),
})

/** The part of a query that both lists pass on to the ledger. */
export function historyFilter({ connections, aliases }: Config, query: Record<string, string>) {
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
    ...(resource !== undefined && { resource: aliases.get(resource)?.id ?? plainSpelling(resource) }),
    ...(change !== undefined && { change }),
    ...(only && { connections: only }),
  }
}

/** How a list is read, and what of it its caller may see. */
export interface ReadHistory<T extends { id: string }> {
  log: Log
  connections?: readonly string[]
  read(page: Scope & { before?: string; limit: number }): Promise<Gathered<T>>
  /** The row as the caller sees it, or undefined. */
  show(row: T): unknown
}
