import { z } from '@hono/zod-openapi'
import { allowedFields, type Caller, mayDo, mayUse } from '../auth.ts'
import type { Config } from '../config.ts'
import type { AuditEvent } from '../ledger/event.ts'
import type { EventFilter } from '../ledger/ledger.ts'
import { hideChanges, type FieldChanges } from '../merge.ts'
import type { CallerContext, Operation } from '../operation.ts'
import { ok, refuse, type Result } from '../problems.ts'

export interface AuditRouteParts {
  config: Config
  /** Newest first, over all connections. */
  events(filter: EventFilter): Promise<AuditEvent[]>
}

const outcomes = [
  'applied',
  'rejected',
  'partial',
  'unknown',
  'not_sent',
  'superseded',
  'needs_attention',
] as const
const DEFAULT_LIMIT = 50
const MAX_LIMIT = 1000
/** Rows read at a time while looking for those that the caller may see. */
const BATCH = 500
/** Rows that one request reads at the most; the cursor goes on from there. */
const MAX_SCAN = 10_000

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/

const query = z.object({
  since: z.iso
    .datetime({ offset: true })
    .optional()
    .openapi({ description: 'From this time on, inclusive.' }),
  until: z.iso.datetime({ offset: true }).optional().openapi({ description: 'Before this time.' }),
  actor: z.string().optional().openapi({ description: 'The caller’s name.' }),
  resource: z.string().optional().openapi({ description: 'A canonical id.' }),
  connection: z.string().optional(),
  provider: z.string().optional(),
  outcome: z.enum(outcomes).optional(),
  change: z.string().optional().openapi({ description: 'A change id.' }),
  limit: z
    .string()
    .regex(/^[1-9]\d{0,3}$/)
    .refine((text) => Number(text) <= MAX_LIMIT)
    .optional()
    .openapi({ type: 'integer', minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT }),
  cursor: z.string().regex(UUID).optional().openapi({ description: '`nextCursor` of the page before.' }),
})

/** The event as the caller may see it; undefined where its rules do not reach it. */
function visibleTo(caller: Caller, event: AuditEvent): AuditEvent | undefined {
  const { kind, resource } = event
  if (kind === null || resource === null || !mayDo(caller, 'audit', kind, resource)) return undefined
  const names = Object.keys(event.fields).filter(allowedFields(caller, 'audit', kind, resource))
  return {
    ...event,
    fields: hideChanges(event.fields as unknown as FieldChanges, names) as unknown as AuditEvent['fields'],
  }
}

async function list(
  { config, events }: AuditRouteParts,
  { caller, query: asked }: CallerContext,
): Promise<Result<Response>> {
  if (!mayUse(caller, 'audit')) return refuse('forbidden', 'the caller may not read the audit')
  const { since, until, actor, resource, outcome, change, connection, provider, cursor } = asked
  const limit = Number(asked['limit'] ?? DEFAULT_LIMIT)
  // A connection that is no longer configured keeps its history under its name; its provider is not known any more.
  const connections =
    provider === undefined
      ? connection === undefined
        ? undefined
        : [connection]
      : [...config.connections.values()]
          .filter((one) => one.provider === provider && (connection === undefined || one.name === connection))
          .map(({ name }) => name)
  const filter = {
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until }),
    ...(actor !== undefined && { actor }),
    ...(resource !== undefined && { resource }),
    ...(outcome !== undefined && { outcome: outcome as (typeof outcomes)[number] }),
    ...(change !== undefined && { change }),
    ...(connections && { connections }),
  } satisfies Omit<EventFilter, 'limit'>

  const data: AuditEvent[] = []
  let before = cursor
  let more = connections?.length !== 0
  for (let scanned = 0; more && data.length < limit && scanned < MAX_SCAN; scanned += BATCH) {
    const batch = await events({ ...filter, ...(before !== undefined && { before }), limit: BATCH })
    more = batch.length === BATCH
    for (const event of batch) {
      if (data.length === limit) {
        more = true
        break
      }
      before = event.id
      const shown = visibleTo(caller, event)
      if (shown) data.push(shown)
    }
  }
  const body = { data, nextCursor: more && before !== undefined ? before : null }
  return ok(new Response(JSON.stringify(body), { headers: { 'content-type': 'application/json' } }))
}

const eventSchema = z
  .object({
    id: z.string().openapi({ description: 'UUIDv7: ids sort by time over all connections.' }),
    connection: z.string(),
    seq: z.int().openapi({ description: 'Position in the connection’s chain, without gaps.' }),
    at: z.string(),
    type: z.enum(['intent', 'attempt', 'outcome', 'settled', 'resolved', 'refused']),
    changeId: z.string().nullable(),
    actor: z
      .object({ caller: z.string(), key: z.string().nullable(), address: z.string().nullable() })
      .nullable(),
    alias: z.string().nullable(),
    kind: z.enum(['credential', 'role', 'permission']).nullable(),
    resource: z.string().nullable(),
    fields: z.record(z.string(), z.any()),
    widens: z.boolean(),
    reason: z.string().nullable(),
    requestId: z.string().nullable(),
    outcome: z.enum(outcomes).nullable(),
    upstream: z.any(),
    previous: z.string(),
    hash: z.string().openapi({
      description: 'SHA-256 of `previous` and the RFC 8785 form of the other members, in lower-case hex.',
    }),
  })
  .openapi('AuditEvent')

export function auditOperations(parts: AuditRouteParts): Operation[] {
  return [
    {
      method: 'get',
      path: '/audit',
      tag: 'Audit',
      summary: 'List audit events, newest first',
      description: 'Who changed what, and what really happened. Secrets appear as keyed fingerprints only.',
      query,
      success: {
        200: {
          description: 'One page. It may hold fewer events than `limit` and still have a next one.',
          content: {
            'application/json': {
              schema: z.object({ data: z.array(eventSchema), nextCursor: z.string().nullable() }),
            },
          },
        },
      },
      problems: ['audit-unavailable'],
      handle: (context) => list(parts, context),
    },
  ]
}
