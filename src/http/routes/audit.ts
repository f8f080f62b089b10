import { z } from '@hono/zod-openapi'
import { deny } from '../../access/deny.ts'
import { allowedFields, type Caller, mayAuditAll, mayDo, mayUse } from '../../access/rules.ts'
import type { Config } from '../../config/document.ts'
import type { AuditEvent } from '../../ledger/event.ts'
import type { History } from '../../ledger/history.ts'
import { SUBJECTS_COUNTED } from '../../ledger/refusals.ts'
import type { Log } from '../../lib/log.ts'
import { type EventType, eventTypes, kinds, type Outcome, outcomes } from '../../model/enums.ts'
import { fieldsOf } from '../../model/fields.ts'
import { ok, type Result } from '../../model/problems.ts'
import { HIDDEN, hideChanges, widensFor } from '../../model/redaction.ts'
import { historyAnswer, pageOf } from '../lists/pages.ts'
import { historyFilter, historyQuery } from '../lists/query.ts'
import type { CallerContext, Operation } from '../operation.ts'
import { widensSchema } from './resource-schemas.ts'

export interface AuditRouteParts {
  config: Config
  history: History
  log: Log
}

const query = historyQuery.extend({
  outcome: z.enum(outcomes).optional(),
  type: z.enum(eventTypes).optional(),
})

/** An event without what its reader may not see. */
type ShownEvent = Omit<AuditEvent, 'widens'> & { widens: boolean | typeof HIDDEN }

/** The event with the fields that the caller may use in this way. */
export function eventFor(event: AuditEvent, mayUse: (field: string) => boolean): ShownEvent {
  const { kind, fields, widens } = event
  const names = Object.keys(fields)
  // Events without fields repeat what the change's intent says, whatever fields that had.
  const judged = names.length > 0 || kind === null ? names : Object.keys(fieldsOf(kind))
  if ([...names, ...judged].every(mayUse)) return event
  return {
    ...event,
    fields: hideChanges(fields, names.filter(mayUse)),
    widens: kind === null ? widens : widensFor(kind, judged, widens, mayUse),
  }
}

/** Resources whose rules are remembered while a list is read. */
const REMEMBERED = 10_000

/** Shows events as the caller may see them. */
function visibleTo(caller: Caller): (event: AuditEvent) => ShownEvent | undefined {
  const known = new Map<string, ((field: string) => boolean) | undefined>()
  return (event) => {
    const { kind, resource } = event
    // What belongs to no resource is for those who may see all of them.
    if (kind === null || resource === null) return mayAuditAll(caller) ? event : undefined
    const name = `${kind} ${resource}`
    if (!known.has(name)) {
      if (known.size === REMEMBERED) known.clear()
      const visible = mayDo(caller, 'audit', kind, resource)
      known.set(name, visible ? allowedFields(caller, 'audit', kind, resource) : undefined)
    }
    const mayUse = known.get(name)
    return mayUse && eventFor(event, mayUse)
  }
}

async function list(
  { config, history, log }: AuditRouteParts,
  context: CallerContext,
): Promise<Result<Response>> {
  const { caller, query: asked } = context
  if (!mayUse(caller, 'audit')) return deny('forbidden', 'the caller may not read the audit')
  const outcome = asked['outcome'] as Outcome | undefined
  const type = asked['type'] as EventType | undefined
  const filter = {
    ...historyFilter(config, asked),
    ...(outcome !== undefined && { outcome }),
    ...(type !== undefined && { type }),
  }
  return ok(
    await historyAnswer(context, columns, {
      ...filter,
      log,
      read: (page) => history.events({ ...filter, ...page }),
      show: visibleTo(caller),
    }),
  )
}

export const eventSchema = z
  .object({
    id: z.string().openapi({ description: 'UUIDv7: ids sort by time over all connections.' }),
    connection: z.string(),
    seq: z.int().openapi({ description: 'Position in the connection’s chain, without gaps.' }),
    at: z.string().openapi({
      description:
        'By the gateway’s clock (RFC 3339). Ids ascend even where it is set back; `since` and `until` go by the time in the id.',
    }),
    type: z.enum(eventTypes),
    changeId: z.string().nullable(),
    actor: z
      .object({ caller: z.string(), key: z.string().nullable(), address: z.string().nullable() })
      .nullable(),
    alias: z.string().nullable(),
    kind: z.enum(kinds).nullable(),
    resource: z.string().nullable(),
    fields: z.record(z.string(), z.any()),
    widens: widensSchema,
    reason: z.string().nullable(),
    requestId: z.string().nullable(),
    outcome: z.enum(outcomes).nullable(),
    upstream: z.any(),
    refusal: z
      .object({
        problem: z.string(),
        count: z.int(),
        subjects: z.array(z.string()).optional(),
        subjectCount: z.int().optional(),
      })
      .optional()
      .openapi({
        description:
          `What a caller was refused, and how often since the last such event. Key, address and resource are those of the first time. ` +
          `Where several keys or tokens were used, \`subjects\` has the first eight as \`actor.key\` spells them, and \`subjectCount\` how many there were; ${SUBJECTS_COUNTED} stands for as many or more.`,
      }),
    previous: z.string(),
    hash: z.string().openapi({
      description: 'SHA-256 of `previous` and the RFC 8785 form of the other members, in lower-case hex.',
    }),
    // Last, so that the other columns of a CSV keep their places.
    unchanged: z
      .object({ kept: z.array(z.string()).optional(), carried: z.array(z.string()).optional() })
      .optional()
      .openapi({
        description:
          'Names of fields that the change says something of and does not alter: `kept` were asked for and had the value already, `carried` stood in the request as they were read. Absent where there are none.',
      }),
  })
  .openapi('AuditEvent')

/** Of a CSV. */
const columns = Object.keys(eventSchema.shape)

export function auditOperations(parts: AuditRouteParts): Operation[] {
  return [
    {
      name: 'listAuditEvents',
      method: 'get',
      path: '/audit',
      tag: 'Audit',
      summary: 'List audit events, newest first',
      description: 'Who changed what, and what really happened. Secrets appear as keyed fingerprints only.',
      query,
      success: pageOf(eventSchema, 'events'),
      problems: [],
      handle: (context) => list(parts, context),
    },
  ]
}
